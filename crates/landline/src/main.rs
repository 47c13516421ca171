use std::process::ExitCode;

/// Messages and packets come and go in small pieces on many threads, for months:
/// ADR 022.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    landline::run()
}
