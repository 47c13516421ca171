//! ITU-T G.711.

/// µ-law code words to 16-bit samples.
static ULAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = !(code as u8);
        let magnitude = ((((bits & 0x0f) as i16) << 3) + 0x84) << ((bits & 0x70) >> 4);
        table[code] = if bits & 0x80 != 0 { 0x84 - magnitude } else { magnitude - 0x84 };
        code += 1;
    }
    table
};

/// A-law code words to 16-bit samples.
static ALAW: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        let bits = code as u8 ^ 0x55;
        let mantissa = ((bits & 0x0f) as i16) << 4;
        let segment = (bits & 0x70) >> 4;
        let magnitude = match segment {
            0 => mantissa + 8,
            _ => (mantissa + 0x108) << (segment - 1),
        };
        table[code] = if bits & 0x80 != 0 { magnitude } else { -magnitude };
        code += 1;
    }
    table
};

pub fn ulaw_decode(code: u8) -> i16 {
    ULAW[usize::from(code)]
}

pub fn alaw_decode(code: u8) -> i16 {
    ALAW[usize::from(code)]
}

pub fn ulaw_encode(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + 0x84;
    let segment = (magnitude >> 7).ilog2();
    let mantissa = magnitude >> (segment + 3) & 0x0f;
    !(sign | (segment as u8) << 4 | mantissa as u8)
}

pub fn alaw_encode(sample: i16) -> u8 {
    // Negative values are one's complements: the code has no negative zero.
    let (sign, magnitude) = if sample >= 0 { (0x80, sample) } else { (0, !sample) };
    let magnitude = i32::from(magnitude);
    let code = if magnitude < 256 {
        magnitude >> 4
    } else {
        let segment = (magnitude >> 8).ilog2() + 1;
        (segment << 4) as i32 | magnitude >> (segment + 3) & 0x0f
    };
    (sign | code as u8) ^ 0x55
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_code_words_have_their_values() {
        for (code, sample) in [(0xff, 0), (0x7f, 0), (0x80, 32_124), (0x00, -32_124), (0xfe, 8)] {
            assert_eq!(ulaw_decode(code), sample, "{code:#x}");
        }
        for (code, sample) in [(0xd5, 8), (0x55, -8), (0xaa, 32_256), (0x2a, -32_256)] {
            assert_eq!(alaw_decode(code), sample, "{code:#x}");
        }
    }

    #[test]
    fn every_code_word_survives_decoding_and_encoding() {
        for code in 0..=255 {
            assert_eq!(alaw_encode(alaw_decode(code)), code, "A-law {code:#x}");
            // µ-law has two zeros; the positive one is sent.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(ulaw_encode(ulaw_decode(code)), expected, "µ-law {code:#x}");
        }
    }

    #[test]
    fn the_code_word_is_the_nearest() {
        for sample in (i16::MIN..=i16::MAX).step_by(7) {
            for (decoded, limit) in [
                (ulaw_decode(ulaw_encode(sample)), 32_124),
                (alaw_decode(alaw_encode(sample)), 32_256),
            ] {
                let wanted = i32::from(sample).clamp(-limit, limit);
                let error = (i32::from(decoded) - wanted).abs();
                assert!(error <= (wanted.abs() / 32).max(8) + 4, "{sample} became {decoded}");
            }
        }
    }
}
