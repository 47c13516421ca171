//! One pass over octets, in chunks as they come: every needle of every word
//! in any case, the same where line breaks and separators are taken out, and
//! every tone.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::encoding::{Encoding, needles};
use crate::tone::{Listener, Tones};
use crate::{AudioForm, CanaryError, CanaryList};

/// Compiled from a canary list once, used for every place.
pub struct Scanner {
    plain: Automaton,
    squeezed: Automaton,
    tones: Tones,
    /// The region and the name of every word, and of every tone.
    words: Vec<(String, String)>,
    voices: Vec<(String, String)>,
}

struct Automaton {
    finder: AhoCorasick,
    /// What each pattern is: the word's index, and its encoding.
    meanings: Vec<(usize, Encoding)>,
    longest: usize,
}

/// One canary in one encoding, somewhere in what was scanned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The region it belongs to.
    pub canary: String,
    pub what: String,
    pub encoding: String,
    pub count: u64,
    /// Octets from the start; of the chunk, where it was folded.
    pub first_at: u64,
}

impl Scanner {
    pub fn new(list: &CanaryList) -> Result<Self, CanaryError> {
        list.check()?;
        let mut forms = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
        let mut words = Vec::new();
        for (region, word) in list.words() {
            for needle in needles(word) {
                let (patterns, meanings) = &mut forms[usize::from(needle.folded)];
                patterns.push(needle.bytes);
                meanings.push((words.len(), needle.encoding));
            }
            words.push((region.to_owned(), word.what.clone()));
        }
        let [plain, squeezed] = forms;
        let mut voices = Vec::new();
        let mut tones = Vec::new();
        for canary in &list.canaries {
            for &hz in &canary.tones {
                tones.push(hz);
                voices.push((canary.region.clone(), format!("tone of {hz} Hz")));
            }
        }
        Ok(Self {
            plain: Automaton::new(plain)?,
            squeezed: Automaton::new(squeezed)?,
            tones: Tones::new(&tones),
            words,
            voices,
        })
    }

    /// How many distinct octet strings are looked for.
    pub fn needles(&self) -> usize {
        self.plain.meanings.len() + self.squeezed.meanings.len()
    }

    pub fn scan(&self) -> Scan<'_> {
        Scan {
            scanner: self,
            plain: Window::default(),
            squeezed: Window::default(),
            squeezer: Squeezer::default(),
            listener: self.tones.listen(),
            found: BTreeMap::new(),
            octets: 0,
        }
    }

    /// All at once.
    pub fn sightings(&self, octets: &[u8]) -> Vec<Sighting> {
        let mut scan = self.scan();
        for chunk in octets.chunks(1 << 20) {
            scan.push(chunk);
        }
        scan.finish()
    }
}

impl Automaton {
    fn new(
        (patterns, meanings): (Vec<Vec<u8>>, Vec<(usize, Encoding)>),
    ) -> Result<Self, CanaryError> {
        let longest = patterns.iter().map(Vec::len).max().unwrap_or(1);
        // Hex and base64 are found in any case, too: no needle is so short
        // that this makes chance hits likely.
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            .build(&patterns)
            .map_err(|error| CanaryError::File(error.to_string()))?;
        Ok(Self { finder, meanings, longest })
    }
}

/// The end of the former chunk: a needle may lie across the border.
#[derive(Default)]
struct Window {
    octets: Vec<u8>,
}

impl Window {
    /// Every match that ends in `chunk`, with its start relative to the chunk.
    fn matches(&mut self, automaton: &Automaton, chunk: &[u8], mut found: impl FnMut(usize, i64)) {
        let kept = self.octets.len();
        self.octets.extend_from_slice(chunk);
        for hit in automaton.finder.find_overlapping_iter(&self.octets) {
            if hit.end() > kept {
                found(hit.pattern().as_usize(), hit.start() as i64 - kept as i64);
            }
        }
        let keep = (automaton.longest - 1).min(self.octets.len());
        self.octets.drain(..self.octets.len() - keep);
    }
}

/// A scan in progress.
pub struct Scan<'a> {
    scanner: &'a Scanner,
    plain: Window,
    squeezed: Window,
    squeezer: Squeezer,
    listener: Listener<'a>,
    found: BTreeMap<(usize, Encoding, bool), (u64, u64)>,
    octets: u64,
}

impl Scan<'_> {
    pub fn push(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while !rest.is_empty() {
            let void = void(rest);
            if void > PAGE {
                // Dumps and sparse files are holes for the most part. One page of
                // zeros says all: no needle holds so many.
                self.take(&rest[..PAGE]);
                self.skip(void - PAGE);
                rest = &rest[void..];
            } else {
                let full = next_void(rest);
                self.take(&rest[..full]);
                rest = &rest[full..];
            }
        }
    }

    fn skip(&mut self, octets: usize) {
        self.listener.skip(octets as u64);
        self.octets += octets as u64;
    }

    fn take(&mut self, chunk: &[u8]) {
        let Self { scanner, plain, squeezed, squeezer, listener, found, octets } = self;
        let mut note = |meaning: (usize, Encoding), folded: bool, at: u64| {
            let entry = found.entry((meaning.0, meaning.1, folded)).or_insert((0, at));
            entry.0 += 1;
        };
        plain.matches(&scanner.plain, chunk, |pattern, start| {
            note(scanner.plain.meanings[pattern], false, octets.saturating_add_signed(start));
        });
        let tight = squeezer.squeeze(chunk);
        squeezed.matches(&scanner.squeezed, &tight, |pattern, _| {
            note(scanner.squeezed.meanings[pattern], true, *octets);
        });
        listener.push(chunk);
        *octets += chunk.len() as u64;
    }

    pub fn octets(&self) -> u64 {
        self.octets
    }

    pub fn finish(self) -> Vec<Sighting> {
        let words = &self.scanner.words;
        let mut all: Vec<Sighting> = self
            .found
            .iter()
            // What stands unfolded is found a second time with separators gone.
            .map(|(key @ (word, encoding, folded), (count, first_at))| {
                let unfolded = self.found.get(&(*word, *encoding, false)).filter(|_| *folded);
                (key, count.saturating_sub(unfolded.map_or(0, |it| it.0)), first_at)
            })
            .filter(|(_, count, _)| *count > 0)
            .map(|((word, encoding, folded), count, first_at)| Sighting {
                canary: words[*word].0.clone(),
                what: words[*word].1.clone(),
                encoding: if *folded {
                    format!("{encoding}, folded")
                } else {
                    encoding.to_string()
                },
                count,
                first_at: *first_at,
            })
            .collect();
        for (tone, form, count, first_at) in self.listener.finish() {
            let (canary, what) = self.scanner.voices[tone].clone();
            let encoding = AudioForm::to_string(&form);
            all.push(Sighting { canary, what, encoding, count, first_at });
        }
        all
    }
}

/// Longer than any needle.
const PAGE: usize = 4096;

/// The whole pages of zeros that octets begin with.
fn void(octets: &[u8]) -> usize {
    let empty = |page: &&[u8]| page.iter().all(|octet| *octet == 0);
    octets.chunks_exact(PAGE).take_while(empty).count() * PAGE
}

/// Octets up to the next void worth leaving out.
fn next_void(octets: &[u8]) -> usize {
    let pages = octets.chunks_exact(2 * PAGE);
    let full = pages.take_while(|pages| pages.iter().any(|octet| *octet != 0)).count();
    let full = full.max(1) * 2 * PAGE;
    if full + 2 * PAGE > octets.len() { octets.len() } else { full }
}

/// Takes out what mail, PEM, dumps and people put between characters.
#[derive(Default)]
struct Squeezer {
    /// An equals sign: a soft line break if a line end follows (RFC 2045 §6.7).
    held: bool,
}

impl Squeezer {
    fn squeeze(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut tight = Vec::with_capacity(chunk.len());
        for &octet in chunk {
            if self.held && !matches!(octet, b'\r' | b'\n') {
                tight.push(b'=');
            }
            self.held = octet == b'=';
            if !self.held && !is_separator(octet) {
                tight.push(octet);
            }
        }
        tight
    }
}

const fn is_separator(octet: u8) -> bool {
    matches!(octet, b'\r' | b'\n' | b'\t' | b' ' | b'-' | b'.' | b'(' | b')')
}

pub(crate) fn squeezed(octets: &[u8]) -> Vec<u8> {
    octets.iter().copied().filter(|octet| !is_separator(*octet)).collect()
}
