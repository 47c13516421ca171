/// The most of everything that a message may hold; what goes beyond is refused
/// before it costs memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole message.
    pub max_message: usize,
    /// Header lines of a message, repeated ones counted each.
    pub max_headers: usize,
    /// Bytes of one header, folded lines counted together.
    pub max_header_len: usize,
    /// Bytes of the Request-URI.
    pub max_uri: usize,
    /// Bytes of the body.
    pub max_body: usize,
    /// Lines of a session description.
    pub max_sdp_lines: usize,
    /// Media descriptions of a session description.
    pub max_sdp_media: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 64 * 1024,
            max_headers: 256,
            max_header_len: 8 * 1024,
            max_uri: 2 * 1024,
            max_body: 48 * 1024,
            max_sdp_lines: 1024,
            max_sdp_media: 32,
        }
    }
}
