use std::process::ExitCode;

/// Messages and packets come and go in small pieces on many threads, for months.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    landline::run()
}
