//! What reading a message may cost.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use landline_sip::{Headers, Limits, Uri, parse, sdp};

/// A slice of the buffer for each header, one list for all of them: more
/// allocations than that, and a proxy spends its time in the allocator.
#[test]
fn an_invite_is_read_with_at_most_four_allocations() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/sip/invite.sip");
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    let limits = Limits::default();
    let before = ALLOCATIONS.get();
    let message = parse(&bytes, &limits).unwrap();
    let spent = ALLOCATIONS.get() - before;
    assert!(message.headers().len() > 10);
    assert!(spent <= 4, "{spent} allocations");
}

/// Linear work takes a fraction of a millisecond each; the square of 60 KB
/// takes seconds.
#[test]
fn no_text_costs_the_square_of_its_length() {
    let limits = Limits {
        max_header_len: 1 << 20,
        max_uri: 1 << 20,
        max_headers: 1 << 20,
        max_sdp_lines: 1 << 20,
        ..Limits::default()
    };
    let head = "OPTIONS sip:b@a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\
                From: <sip:a@b>;tag=1\r\nTo: <sip:b@a>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n";
    for piece in
        ["<", ">", "\"", "\\", "\\\"", ";", ";a", ",", ",<sip:a@b>", "a:", "%41", "\r\n ", " "]
    {
        let long = piece.repeat(60_000 / piece.len());
        let message = Bytes::from(format!("{head}Contact: {long}\r\nRoute: x{long}\r\n\r\n"));
        within_a_second(piece, || drop(parse(&message, &limits).map(|m| m.headers().contacts())));
        let line = Bytes::from(format!("OPTIONS sip:b@a{long} SIP/2.0\r\n{}\r\n", &head[25..]));
        within_a_second(piece, || drop(parse(&line, &limits)));
        let mut headers = Headers::new();
        headers.push(landline_sip::HeaderName::Route, long.as_str());
        within_a_second(piece, || headers.values(&landline_sip::HeaderName::Route).for_each(drop));
        let text =
            format!("v=0\r\no=- 1 1 IN IP4 a\r\ns=-\r\na={long}\r\nm=audio 1 RTP/AVP {long}\r\n");
        within_a_second(piece, || drop(sdp::parse(text.as_bytes(), &limits)));
    }
    let many: String = (0..8_000).map(|n| format!(";p{n}=v")).collect();
    let uri = Uri::parse(&format!("sip:a@b{many}")).unwrap();
    within_a_second("parameters", || assert!(uri.matches(&uri)));
}

fn within_a_second(name: &str, work: impl FnOnce()) {
    let start = Instant::now();
    work();
    let spent = start.elapsed();
    assert!(spent < Duration::from_secs(1), "{name:?} took {spent:?}");
}

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the system allocator's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
