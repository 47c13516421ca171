// How good a call is, from what the browser counts (RTCStatsReport).

export interface Quality {
  /** Milliseconds there and back. */
  roundTrip: number | null;
  /** Percent of packets that should have come since the last look. */
  loss: number | null;
  /** Milliseconds. */
  jitter: number | null;
  /** Estimated mean opinion score, 1 to 4.5. */
  mos: number | null;
  codec: string | null;
}

/** What was counted at the last look. */
export interface Counted {
  received: number;
  lost: number;
}

// What a relay reckons with too (crates/media/src/quality.rs): R of a call with
// no impairment (ITU-T G.107 §7), and how well codecs bear loss (G.113).
const BASIC = 93.2;
const BUFFER_MS = 40;
const ROBUSTNESS: Record<string, number> = { opus: 20, g722: 10, pcmu: 25.1, pcma: 25.1 };

/** A reduced E-model of loss, jitter and delay. */
export function mos(codec: string | null, loss: number, jitter: number, roundTrip: number): number {
  const known = ROBUSTNESS[codec?.toLowerCase() ?? ''];
  const [impairment, robustness] = known === undefined ? [5, 15] : [0, known];
  const late = Math.min(Math.max((jitter - BUFFER_MS) / 4, 0), 30);
  const percent = Math.min(Math.max(loss, 0), 100) + late;
  const effective = impairment + ((95 - impairment) * percent) / (percent + robustness);
  const oneWay = roundTrip / 2 + 2 * jitter;
  // G.107's Idd, as its usual approximation: steeper beyond 177 ms.
  const delay = 0.024 * oneWay + (oneWay > 177.3 ? 0.11 * (oneWay - 177.3) : 0);
  const r = Math.min(Math.max(BASIC - effective - delay, 0), 100);
  return Math.min(Math.max(1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6, 1), 4.5);
}

/** Today's quality, and the counts to look from the next time. */
export async function measure(
  connection: RTCPeerConnection,
  before: Counted | null,
): Promise<[Quality, Counted | null]> {
  const quality: Quality = { roundTrip: null, loss: null, jitter: null, mos: null, codec: null };
  let counted: Counted | null = null;
  let pairTrip: number | null = null;
  const report = await connection.getStats();
  report.forEach((row) => {
    if (row.type === 'inbound-rtp' && row.kind === 'audio') {
      quality.jitter = (row.jitter ?? 0) * 1000;
      counted = { received: row.packetsReceived ?? 0, lost: row.packetsLost ?? 0 };
      const mime: string | undefined = report.get(row.codecId)?.mimeType;
      quality.codec = mime?.split('/')[1] ?? null;
    } else if (row.type === 'remote-inbound-rtp' && row.roundTripTime !== undefined) {
      quality.roundTrip = row.roundTripTime * 1000;
    } else if (row.type === 'candidate-pair' && row.nominated && row.currentRoundTripTime) {
      pairTrip = row.currentRoundTripTime * 1000;
    }
  });
  quality.roundTrip ??= pairTrip;
  const now = counted as Counted | null;
  if (now) {
    const received = now.received - (before?.received ?? 0);
    const lost = Math.max(now.lost - (before?.lost ?? 0), 0);
    if (received > 0) {
      quality.loss = (100 * lost) / (received + lost);
      quality.mos = mos(quality.codec, quality.loss, quality.jitter ?? 0, quality.roundTrip ?? 0);
    }
  }
  return [quality, now];
}

/** A word for a score, so that nobody has to know what MOS is. */
export function word(score: number): string {
  if (score >= 4) return 'Very good';
  if (score >= 3.6) return 'Good';
  if (score >= 3.1) return 'Fair';
  if (score >= 2.6) return 'Poor';
  return 'Bad';
}
