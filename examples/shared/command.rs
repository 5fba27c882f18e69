//! What the examples' `main` functions share: options are read, and whatever goes wrong is said in
//! one line on stderr, with a non-zero exit status.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

/// Reads the options and hands them to `body`. `name` goes in front of an error.
pub fn run<T: Parser>(name: &str, body: impl FnOnce(&T) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let options = match T::try_parse() {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            eprintln!("{name}: {}", one_line(&error));
            return ExitCode::from(2);
        }
        Err(help) => help.exit(),
    };
    match body(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What clap says of a bad option, without the usage that follows it.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let said: Vec<_> = said.filter(|line| !line.is_empty()).collect();
    let said = said.join(" ").replace("For more information, try '--help'.", "");
    format!("{} (--help lists the options)", said.trim_start_matches("error: ").trim_end())
}
