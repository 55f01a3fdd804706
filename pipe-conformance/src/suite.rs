use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use libtest_mimic::{Arguments, Completion, Failed, FormatSetting, Trial};

use crate::case::Case;
use crate::cases;
use crate::fixture::Fixture;
use crate::matrix::Matrix;
use crate::mode::Mode;
use crate::run::{Outcome, run};
use crate::start::Start;

/// The environment variable that makes the process run one trial alone: its name.
const ISOLATED: &str = "PIPE_CONFORMANCE_ISOLATED";

/// The environment variable that says where to write the matrix.
const MATRIX: &str = "PIPE_CONFORMANCE_MATRIX";

/// The exit codes of a process that ran one trial alone; any other means that it broke down.
const PASSED: u8 = 70;
const SKIPPED: u8 = 71;
const FAILED: u8 = 72;

const MODES: [Mode; 2] = [Mode::Static, Mode::Erased];

/// The cases for any number of transports, as the program of a test target.
///
/// The macro [`conformance!`](crate::conformance) is the short way; this is for a `main` that chooses
/// its fixtures at run time.
///
/// ```no_run
/// # fn fixtures() -> Vec<Nothing> { Vec::new() }
/// # struct Nothing;
/// # impl pipe_conformance::Fixture for Nothing {
/// #     type Transport = pipe_core::BoxTransport;
/// #     fn name(&self) -> &str { "nothing" }
/// #     fn setup(&self, _: pipe_core::Config)
/// #         -> pipe_core::Result<pipe_conformance::Setup<Self::Transport>> { unreachable!() }
/// #     fn listen_addr(&self) -> pipe_core::Addr { unreachable!() }
/// #     fn vacant_addr(&self) -> pipe_core::Addr { unreachable!() }
/// # }
/// fn main() -> std::process::ExitCode {
///     let mut suite = pipe_conformance::Suite::new();
///     for fixture in fixtures() {
///         suite = suite.with(fixture);
///     }
///     suite.main()
/// }
/// ```
#[derive(Default)]
pub struct Suite {
    subjects: Vec<Arc<dyn Start>>,
}

impl Suite {
    /// A suite without a transport.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a transport.
    ///
    /// # Panics
    ///
    /// If there is one of the same name.
    #[must_use]
    pub fn with(mut self, fixture: impl Fixture) -> Self {
        let name = Fixture::name(&fixture);
        assert!(
            self.subjects.iter().all(|subject| subject.name() != name),
            "two fixtures are named {name:?}"
        );
        self.subjects.push(Arc::new(fixture));
        self
    }

    /// Runs what the arguments of the process ask for, prints the outcomes, and returns the exit
    /// code: success only if nothing failed.
    ///
    /// The arguments are those of Rust's own test harness. See the [crate's docs](crate) for the
    /// matrix and the environment variables.
    pub fn main(self) -> ExitCode {
        let trials = self.trials();
        if let Ok(name) = env::var(ISOLATED) {
            return match trials.iter().find(|trial| trial.name == name) {
                Some(trial) => report(&trial.run_here()),
                None => report(&Outcome::Failed(format!("there is no trial {name}"))),
            };
        }

        let mut args = Arguments::from_args();
        // Many trials wait for a time to pass: more of them run at once than there are processors.
        args.test_threads
            .get_or_insert_with(|| 2 * thread::available_parallelism().map_or(1, usize::from));
        let matrix = Arc::new(Mutex::new(self.matrix()));
        let tests = trials.into_iter().map(|trial| {
            let matrix = matrix.clone();
            Trial::ignorable_test(trial.name.clone(), move || {
                let outcome = trial.run();
                matrix.lock().unwrap_or_else(PoisonError::into_inner).set(
                    trial.column,
                    trial.row,
                    outcome.clone(),
                );
                match outcome {
                    Outcome::Passed => Ok(Completion::Completed),
                    Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
                    Outcome::Failed(message) => Err(Failed::from(message)),
                }
            })
        });
        let conclusion = libtest_mimic::run(&args, tests.collect());
        let matrix = matrix.lock().unwrap_or_else(PoisonError::into_inner);
        publish(&matrix, &args);
        conclusion.exit_code()
    }

    fn trials(&self) -> Vec<ConformanceTrial> {
        let rows = cases::of(Mode::Erased);
        let mut trials = Vec::new();
        for (column, (subject, mode)) in self.columns().enumerate() {
            for case in cases::of(mode) {
                let row = rows.iter().position(|row| row.name == case.name);
                trials.push(ConformanceTrial {
                    name: format!("{}/{mode}/{}", subject.name(), case.name),
                    column,
                    row: row.expect("every case runs through the erased types"),
                    case,
                    subject: subject.clone(),
                    mode,
                });
            }
        }
        trials
    }

    fn matrix(&self) -> Matrix {
        let columns = self
            .columns()
            .map(|(subject, mode)| format!("{}/{mode}", subject.name()));
        let rows = cases::of(Mode::Erased);
        let rows = rows.iter().map(|case| (case.name, case.group));
        Matrix::new(columns.collect(), rows)
    }

    fn columns(&self) -> impl Iterator<Item = (&Arc<dyn Start>, Mode)> {
        self.subjects
            .iter()
            .flat_map(|subject| MODES.map(|mode| (subject, mode)))
    }
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.subjects.iter().map(|subject| subject.name());
        f.debug_list().entries(names).finish()
    }
}

/// One case for one transport in one mode.
struct ConformanceTrial {
    name: String,
    column: usize,
    row: usize,
    case: Case,
    subject: Arc<dyn Start>,
    mode: Mode,
}

impl ConformanceTrial {
    fn run(&self) -> Outcome {
        if self.case.isolated {
            self.run_in_a_child()
        } else {
            self.run_here()
        }
    }

    fn run_here(&self) -> Outcome {
        run(&self.subject, self.case, self.mode)
    }

    /// Runs the trial in a process that does nothing else: this program again.
    fn run_in_a_child(&self) -> Outcome {
        let child = env::current_exe()
            .and_then(|program| Command::new(program).env(ISOLATED, &self.name).output());
        let output = match child {
            Ok(output) => output,
            Err(e) => return Outcome::Failed(format!("no child process: {e}")),
        };
        let said = String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let code = output
            .status
            .code()
            .and_then(|code| u8::try_from(code).ok());
        match code {
            Some(PASSED) => Outcome::Passed,
            Some(SKIPPED) => Outcome::Skipped(said),
            Some(FAILED) => Outcome::Failed(format!("{said}\n{errors}")),
            _ => Outcome::Failed(format!(
                "the child process broke down, {}:\n{said}\n{errors}",
                output.status
            )),
        }
    }
}

/// Tells the parent process how the trial went.
fn report(outcome: &Outcome) -> ExitCode {
    let (code, message) = match outcome {
        Outcome::Passed => (PASSED, ""),
        Outcome::Skipped(reason) => (SKIPPED, reason.as_str()),
        Outcome::Failed(message) => (FAILED, message.as_str()),
    };
    println!("{message}");
    ExitCode::from(code)
}

/// Prints the matrix, and writes it to a file if everything has run.
pub(crate) fn publish(matrix: &Matrix, args: &Arguments) {
    if args.list || args.format == Some(FormatSetting::Json) || matrix.is_empty() {
        return;
    }
    println!("{matrix}");
    let filtered = args.filter.is_some() || !args.skip.is_empty() || args.ignored || args.bench;
    if filtered {
        return;
    }
    let path = env::var_os(MATRIX).map_or_else(matrix_path, PathBuf::from);
    match write(&path, &matrix.to_string()) {
        Ok(()) => println!("The matrix is in {}", path.display()),
        Err(e) => eprintln!("the matrix could not be written to {}: {e}", path.display()),
    }
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

/// `conformance/PACKAGE-TEST.md` in cargo's target folder, which is the one above this program that cargo
/// has tagged.
fn matrix_path() -> PathBuf {
    let program = env::current_exe().unwrap_or_default();
    let package = env::var("CARGO_PKG_NAME").ok();
    let test = program.file_stem().map(|stem| stem.to_string_lossy());
    let file = matrix_file(package.as_deref(), test.as_deref().unwrap_or("matrix"));
    let target = program
        .ancestors()
        .skip(1)
        .find(|folder| folder.join("CACHEDIR.TAG").is_file())
        .unwrap_or_else(|| Path::new("target"));
    target.join("conformance").join(file)
}

/// Each suite of a workspace has a file of its own: it is named after the package, which cargo tells to the
/// tests that it runs, and the test, which stands before the hash in the name of its program.
fn matrix_file(package: Option<&str>, program: &str) -> String {
    let is_hash = |hash: &str| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit());
    let test = match program.rsplit_once('-') {
        Some((test, hash)) if is_hash(hash) => test,
        _ => program,
    };
    match package {
        Some(package) => format!("{package}-{test}.md"),
        None => format!("{test}.md"),
    }
}

#[cfg(test)]
mod tests {
    use pipe_core::{Addr, BoxTransport, Config, Result};

    use super::*;
    use crate::fixture::Setup;

    #[test]
    fn each_suite_has_a_file_of_its_own() {
        let program = "conformance-0123456789abcdef";
        assert_eq!(matrix_file(Some("mine"), program), "mine-conformance.md");
        assert_eq!(matrix_file(None, program), "conformance.md");
        assert_eq!(matrix_file(Some("mine"), "over-tcp"), "mine-over-tcp.md");
    }

    struct Nameless(&'static str);

    impl Fixture for Nameless {
        type Transport = BoxTransport;

        fn name(&self) -> &str {
            self.0
        }

        fn setup(&self, _: Config) -> Result<Setup<BoxTransport>> {
            panic!("nothing is run here")
        }

        fn listen_addr(&self) -> Addr {
            panic!("nothing is run here")
        }

        fn vacant_addr(&self) -> Addr {
            panic!("nothing is run here")
        }
    }

    #[test]
    fn each_case_is_a_trial_for_each_fixture_and_mode_that_it_runs_in() {
        let suite = Suite::new().with(Nameless("a")).with(Nameless("b"));
        let trials = suite.trials();
        let of_each = MODES.map(|mode| cases::of(mode).len());
        assert_eq!(trials.len(), 2 * of_each.iter().sum::<usize>());
        let names: Vec<&str> = trials.iter().map(|trial| trial.name.as_str()).collect();
        assert!(names.contains(&"a/static/a_drop_is_a_reset"));
        assert!(names.contains(&"b/erased/a_drop_is_a_reset"));
        assert!(names.contains(&"b/erased/a_reset_wakes_the_peers_read"));
        assert!(!names.contains(&"b/static/a_reset_wakes_the_peers_read"));
    }

    #[test]
    #[should_panic(expected = "two fixtures are named \"a\"")]
    fn fixtures_of_one_name_are_refused() {
        let _ = Suite::new().with(Nameless("a")).with(Nameless("a"));
    }
}
