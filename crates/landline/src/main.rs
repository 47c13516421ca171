use std::process::ExitCode;

fn main() -> ExitCode {
    landline::run()
}
