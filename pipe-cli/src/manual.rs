//! `pipe completions` and `pipe man`, made from the same description as the help.

use std::io;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::standard::write_stdout;

/// Prints the script that makes a shell complete arguments.
pub(crate) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pipe", &mut script);
    print(&script)
}

/// Prints the manual page of the program, or of one of its commands.
pub(crate) fn page(name: Option<&str>) -> Result<Exit, Failure> {
    let mut command = Cli::command();
    command.build();
    let described = match name {
        None => command.clone(),
        Some(name) => {
            let found = command.find_subcommand(name).cloned().ok_or_else(|| {
                let names: Vec<_> = command
                    .get_subcommands()
                    .map(clap::Command::get_name)
                    .collect();
                let known = names.join(", ");
                Failure::usage(format!("there is no command {name:?}; there are {known}"))
            })?;
            found.after_help(crate::exit::HELP)
        }
    };
    let mut page = Vec::new();
    let rendered = Man::new(described).render(&mut page);
    rendered.map_err(|error| Failure::local("the manual page", &error))?;
    print(&page)
}

fn print(bytes: &[u8]) -> Result<Exit, Failure> {
    match write_stdout(bytes) {
        // A pager that was left early.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::local("standard output", &error))
        }
        _ => Ok(Exit::Done),
    }
}
