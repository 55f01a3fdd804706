use std::env;

/// Returns the number in a variable of the environment, or a default where it is not set. Panics on anything
/// else.
pub(crate) fn number(variable: &str, default: u32) -> u32 {
    let Ok(text) = env::var(variable) else {
        return default;
    };
    text.parse()
        .unwrap_or_else(|e| panic!("{variable} is {text:?}: {e}"))
}
