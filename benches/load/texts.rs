//! Texts to ask: short ones that a default rule decides, and word sequences that no rule knows.
//!
//! No two texts for the classifier are equal, in one run or in two, so its score cache never
//! answers; but those that are meant for the cache are few.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU32, Ordering},
};

/// Two special tokens, two words of the run and four that count.
pub const TOKENS_MIN: i64 = 8;
const SPECIAL_TOKENS: usize = 2;
const COUNTING_WORDS: usize = 4;
/// Different texts for the cache: it has read them all after a fraction of a second.
const CACHED: u64 = 32;

/// Makes texts for one run.
pub struct Texts {
    run: u64,
    made: AtomicU32,
}

impl Texts {
    /// Starts a run that shares no text with others.
    pub fn new() -> Self {
        // Each RandomState has keys of its own.
        Self { run: RandomState::new().build_hasher().finish(), made: AtomicU32::new(0) }
    }

    /// Returns a text that one of the default rules decides.
    pub fn fast(&self) -> String {
        let count = self.made.fetch_add(1, Ordering::Relaxed);
        match count % 4 {
            0 => "hello there!".to_owned(),
            1 => "thank you so much, that helped a lot".to_owned(),
            2 => format!("what is {} + {}?", count % 99_991, count % 83),
            _ => format!("set a timer for {} minutes", 1 + count % 90),
        }
    }

    /// Returns a new text of this many tokens of a BERT vocabulary, special tokens included.
    pub fn classifier(&self, tokens: usize) -> String {
        self.counted(tokens, self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns one of a few texts, as long as those.
    pub fn cached(&self, tokens: usize, turn: u64) -> String {
        // Counted down from the end: never one of the new ones.
        self.counted(tokens, u32::MAX - (turn % CACHED) as u32)
    }

    fn counted(&self, tokens: usize, count: u32) -> String {
        let random_words = tokens - SPECIAL_TOKENS - COUNTING_WORDS;
        let mut state = self.run;
        let mut words = Vec::with_capacity(tokens);
        for at in 0..random_words {
            // The first two words tell runs apart, the others differ from text to text.
            if at == 2 {
                state ^= u64::from(count) << 32;
            }
            words.push(word(splitmix(&mut state) as u8));
        }
        // An odd factor permutes the counts, so that neighbours look unlike each other.
        words.extend(count.wrapping_mul(0x9E37_79B1).to_le_bytes().map(word));
        words.join(" ")
    }
}

/// The generator of Steele, Lea and Flood 2014.
fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn word(byte: u8) -> &'static str {
    WORDS[usize::from(byte)]
}

/// One token each in the vocabulary of BERT (uncased).
#[rustfmt::skip]
const WORDS: [&str; 256] = [
    "report", "table", "customer", "market", "river", "garden", "engine", "network", "screen", "window",
    "letter", "number", "station", "school", "teacher", "student", "doctor", "hospital", "patient",
    "medicine", "treatment", "surgery", "history", "language", "culture", "music", "picture", "camera",
    "bridge", "tower", "castle", "village", "island", "mountain", "valley", "forest", "desert", "ocean",
    "weather", "winter", "summer", "spring", "autumn", "morning", "evening", "project", "manager",
    "budget", "contract", "supplier", "delivery", "product", "service", "quality", "price", "account",
    "payment", "transfer", "credit", "interest", "insurance", "policy", "claim", "damage", "repair",
    "machine", "factory", "worker", "union", "salary", "training", "course", "lesson", "exam", "answer",
    "question", "problem", "solution", "method", "theory", "research", "laboratory", "experiment",
    "measure", "result", "figure", "chart", "column", "record", "file", "folder", "server", "client",
    "database", "query", "index", "memory", "processor", "storage", "cable", "signal", "channel", "radio",
    "television", "newspaper", "magazine", "article", "author", "editor", "publisher", "library", "museum",
    "gallery", "theatre", "concert", "festival", "stage", "actor", "director", "film", "novel", "poem",
    "chapter", "sentence", "paragraph", "title", "version", "update", "release", "error", "warning",
    "message", "address", "street", "avenue", "building", "apartment", "kitchen", "bathroom", "bedroom",
    "furniture", "chair", "mirror", "carpet", "lamp", "battery", "power", "energy", "fuel", "oil", "gas",
    "coal", "wood", "stone", "metal", "glass", "paper", "plastic", "cotton", "silver", "gold", "copper",
    "iron", "steel", "bread", "butter", "cheese", "coffee", "sugar", "salt", "pepper", "chicken", "fish",
    "meat", "vegetable", "fruit", "apple", "orange", "banana", "lemon", "tomato", "potato", "onion",
    "garlic", "horse", "cattle", "sheep", "bird", "eagle", "tiger", "lion", "bear", "wolf", "rabbit",
    "mouse", "snake", "train", "aircraft", "vehicle", "truck", "bicycle", "harbor", "airport", "passenger",
    "ticket", "luggage", "passport", "border", "government", "minister", "parliament", "election",
    "president", "mayor", "council", "court", "judge", "lawyer", "police", "officer", "army", "soldier",
    "captain", "sailor", "pilot", "driver", "farmer", "baker", "merchant", "banker", "engineer",
    "designer", "architect", "painter", "sculptor", "singer", "dancer", "football", "tennis", "hockey",
    "golf", "cricket", "coach", "player", "team", "league", "season", "victory", "defeat", "match",
    "trophy", "medal", "champion", "strength", "balance", "movement",
];
