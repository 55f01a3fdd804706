/// Lists functions, each of which is a model, with their names.
macro_rules! models {
    ($($name:ident),* $(,)?) => {
        vec![$((stringify!($name), $name as fn())),*]
    };
}
pub(crate) use models;
