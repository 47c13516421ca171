//! The web phone's files, as `build.rs` made them from `web/`.
//!
//! Whoever serves them below one path, under a Content-Security-Policy of
//! `'self'` and the WebSocket addresses of the SIP edges, serves the phone.

/// One file of the page.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// Below the page's path; the page itself is `index.html`.
    pub path: &'static str,
    pub media_type: &'static str,
    pub bytes: &'static [u8],
}

/// Everything that the page loads, and the notices of what it was made from.
pub static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str) -> &'static str {
        let file = FILES.iter().find(|file| file.path == name);
        std::str::from_utf8(file.unwrap_or_else(|| panic!("no {name}")).bytes).unwrap()
    }

    #[test]
    fn the_page_names_only_files_that_are_there_and_nothing_inline() {
        let page = text("index.html");
        for attribute in ["src=\"", "href=\""] {
            for rest in page.split(attribute).skip(1) {
                let target = rest.split('"').next().unwrap();
                if let Some(symbol) = target.strip_prefix('#') {
                    assert!(page.contains(&format!("id=\"{symbol}\"")), "{target}");
                } else {
                    assert!(FILES.iter().any(|file| file.path == target), "{target}");
                }
            }
        }
        for inline in ["<style", " style=", " onclick=", "<script>", "javascript:", "http://"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }

    #[test]
    fn nobody_else_is_asked_for_anything() {
        // The library's own default is a public STUN server.
        for name in ["phone.js", "phone.css", "index.html"] {
            for rest in text(name).split("https://").skip(1) {
                let host: String = rest.chars().take(24).collect();
                assert!(!host.is_empty() && host.starts_with('$'), "{name}: https://{host}");
            }
        }
    }

    #[test]
    fn the_notices_hold_the_licence_of_the_library() {
        let notices = text("notices.txt");
        assert!(notices.contains("sip.js") && notices.contains("Permission is hereby granted"));
    }
}
