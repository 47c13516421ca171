use std::path::Path;

use anyhow::{Context, Result, anyhow};
use landline_console::audio;
use landline_media::audio::{Rendered, strongest_tone};
use landline_region::receipt::DeletionReason;
use landline_region::{RecordingSid, RegionCode};
use landline_store::{DeletedBy, RecordingFilter, RecordingRecord, Store, StoreError};
use serde_json::{Value, json};

use super::Place;
use super::calls::time;
use crate::cli::RecordingVerb;
use crate::output::{Style, Table, card};

pub async fn run(place: &Place, verb: RecordingVerb, style: Style) -> Result<String> {
    match verb {
        RecordingVerb::List { account, limit } => {
            let (stores, account) = place.scope(account.as_deref()).await?;
            let mut rows = Vec::new();
            for (region, store) in stores {
                let filter = RecordingFilter { account, limit: Some(limit), ..Default::default() };
                for recording in store.recording_list(&filter).await? {
                    let mut row = shown(&recording);
                    row["region"] = Value::String(region.to_string());
                    rows.push((recording.started_at, row));
                }
            }
            rows.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            let rows = rows.into_iter().map(|(_, row)| row).take(limit as usize).collect();
            let columns = [
                "started_at",
                "duration_ms",
                "expected_packets",
                "stored_packets",
                "region",
                "call",
                "sid",
            ];
            Ok(Table::new(&columns, rows, "no recordings").render(style))
        }
        RecordingVerb::Export { recording, file } => {
            let answer = export(place, recording, &file).await?;
            Ok(card(&answer, style))
        }
        RecordingVerb::Delete { recording, erasure } => {
            let (region, store, found) = find(place, recording).await?;
            let reason = if erasure { DeletionReason::Erasure } else { DeletionReason::Request };
            let by = DeletedBy { reason, actor: "operator".to_owned() };
            let deleted = store.recording_delete(found.account, recording, &by).await?;
            let mut answer = shown(&deleted);
            answer["region"] = Value::String(region.to_string());
            answer["deleted_at"] = json!(time(deleted.deleted_at));
            Ok(card(&answer, style))
        }
    }
}

pub fn shown(recording: &RecordingRecord) -> Value {
    json!({
        "sid": recording.sid.to_string(),
        "call": recording.call.to_string(),
        "account": recording.account.to_string(),
        "started_at": recording.started_at.to_string(),
        "finished_at": time(recording.finished_at),
        "duration_ms": recording.duration_ms,
        "expected_packets": recording.expected_packets,
        "stored_packets": recording.stored_packets,
        "chunks": recording.chunks,
        "gaps": recording.gaps().iter().map(|gap| json!({
            "at_ms": gap.at_ms,
            "duration_ms": gap.duration_ms,
        })).collect::<Vec<_>>(),
        "key_id": recording.key_id,
        "consent": {
            "by_policy": recording.consent.by_policy,
            "granted_at": recording.consent.granted_at.to_string(),
        },
    })
}

/// In the region, at hand, that holds it.
async fn find(place: &Place, sid: RecordingSid) -> Result<(RegionCode, Store, RecordingRecord)> {
    for (region, store) in place.stores().await? {
        match store.recording_show(sid).await {
            Ok(recording) => return Ok((region, store, recording)),
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(anyhow!(
        "no recording {sid} in {}; a recording lies in its account's home region alone",
        place.shown()
    ))
}

/// Writes a 16-bit WAV: the caller left, the callee right.
async fn export(place: &Place, sid: RecordingSid, file: &Path) -> Result<Value> {
    let (region, store, recording) = find(place, sid).await?;
    let audio = audio::rendered(&store, sid).await?;
    write_wav(file, &audio).with_context(|| format!("{}", file.display()))?;
    let mut answer = shown(&recording);
    answer["region"] = Value::String(region.to_string());
    answer["file"] = json!(file);
    answer["sample_rate"] = json!(audio.rate);
    answer["audio_ms"] = json!(audio.samples.len() as u64 * 1000 / u64::from(audio.rate));
    Ok(answer)
}

/// What a recording's two channels hold, in Hz: the strongest tone of each.
pub async fn recorded_tones(store: &Store, sid: RecordingSid) -> Result<Vec<Option<f64>>> {
    let audio = audio::rendered(store, sid).await?;
    let tone = |channel: usize| {
        let samples: Vec<i16> = audio.samples.iter().map(|pair| pair[channel]).collect();
        // The middle: the ends may be silent.
        let middle = samples.get(samples.len() / 4..samples.len() * 3 / 4).unwrap_or_default();
        strongest_tone(middle, audio.rate).map(|(hz, _)| hz)
    };
    Ok(vec![tone(0), tone(1)])
}

fn write_wav(file: &Path, audio: &Rendered) -> Result<()> {
    write_channels(file, audio, 2)
}

/// The caller alone.
pub fn write_mono(file: &Path, audio: &Rendered) -> Result<()> {
    write_channels(file, audio, 1)
}

fn write_channels(file: &Path, audio: &Rendered, channels: u16) -> Result<()> {
    let format = hound::WavSpec {
        channels,
        sample_rate: audio.rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(file, format)?;
    let heard = usize::from(channels);
    let length = u32::try_from(audio.samples.len() * heard)
        .context("the recording is too long for a WAV file")?;
    let mut samples = writer.get_i16_writer(length);
    for sample in audio.samples.iter().flat_map(|pair| pair.iter().take(heard)) {
        samples.write_sample(*sample);
    }
    samples.flush()?;
    Ok(writer.finalize()?)
}
