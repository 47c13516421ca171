//! Listening quality by a reduced ITU-T G.107 E-model: only what a relay can
//! see, loss and jitter, on top of the codec's own impairment.

/// R of a narrow-band connection with no impairment but its noise (G.107 §7).
const BASIC: f64 = 93.2;

/// Jitter a receiver's buffer takes up before it costs packets, in ms.
const BUFFER_MS: f64 = 40.0;

/// Equipment impairment and robustness to loss: Ie and Bpl of G.113 appendix I
/// (Opus and G.722 as their narrow-band equivalents).
fn codec(name: Option<&str>) -> (f64, f64) {
    match name {
        Some("OPUS") => (0.0, 20.0),
        Some("G722") => (0.0, 10.0),
        Some("PCMU" | "PCMA") => (0.0, 25.1),
        _ => (5.0, 15.0),
    }
}

/// MOS × 100 for a share of packets lost (0 to 1) and interarrival jitter.
pub fn mos_x100(name: Option<&str>, loss: f64, jitter_ms: f64) -> u16 {
    let (impairment, robustness) = codec(name);
    // Late packets are lost to the ear: one percent per 4 ms beyond the buffer.
    let late = ((jitter_ms - BUFFER_MS) / 4.0).clamp(0.0, 30.0);
    let percent = (loss * 100.0).clamp(0.0, 100.0) + late;
    // G.107 (7-29) with random loss (BurstR 1).
    let effective = impairment + (95.0 - impairment) * percent / (percent + robustness);
    // Idd of the mouth-to-ear delay that the jitter buffer adds (below 177 ms).
    let delay = 0.024 * (2.0 * jitter_ms).min(177.0);
    (mos(BASIC - effective - delay) * 100.0).round() as u16
}

/// G.107 annex B.
fn mos(r: f64) -> f64 {
    let r = r.clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_call_scores_like_g_711_and_loss_costs() {
        assert_eq!(mos_x100(Some("PCMU"), 0.0, 0.0), 441);
        let one = mos_x100(Some("PCMU"), 0.01, 0.0);
        let five = mos_x100(Some("PCMU"), 0.05, 0.0);
        let half = mos_x100(Some("PCMU"), 0.5, 0.0);
        assert!(441 > one && one > five && five > half && half >= 100);
        assert!((300..=420).contains(&five), "{five}");
    }

    #[test]
    fn jitter_beyond_the_buffer_costs() {
        let calm = mos_x100(Some("OPUS"), 0.0, 5.0);
        assert!(mos_x100(Some("OPUS"), 0.0, 80.0) < calm);
    }
}
