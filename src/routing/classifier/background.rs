//! Embeddings of ordinary traffic, as `background.f32` of a bundle holds them.
//!
//! Intents by example are calibrated against them; nothing else reads them.

use std::borrow::Cow;

/// Farthest that an embedding's length may be from 1.
pub const LENGTH_TOLERANCE: f32 = 0.01;
const NUMBER_BYTES: usize = 4;

/// Rows of `width` little-endian f32, each of length 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Background {
    bytes: Cow<'static, [u8]>,
    width: usize,
}

impl Background {
    /// Takes `bytes` that should be `rows` embeddings of `width` numbers, or says what is wrong.
    pub fn new(bytes: Cow<'static, [u8]>, rows: usize, width: usize) -> Result<Self, String> {
        let expected = rows.checked_mul(width).and_then(|numbers| numbers.checked_mul(NUMBER_BYTES));
        if expected != Some(bytes.len()) {
            return Err(format!("{} bytes are not {rows} rows of {width} float32", bytes.len()));
        }
        let background = Self { bytes, width };
        for (at, row) in background.rows().enumerate() {
            let length = length(&row);
            // NaN is within nothing.
            let fits = (length - 1.0).abs() <= LENGTH_TOLERANCE;
            if !fits {
                return Err(format!("row {at} has length {length}, 1 expected"));
            }
        }
        Ok(background)
    }

    /// Returns each embedding.
    pub fn rows(&self) -> impl Iterator<Item = Vec<f32>> + '_ {
        self.bytes.chunks_exact(self.width * NUMBER_BYTES).map(|row| {
            row.chunks_exact(NUMBER_BYTES)
                .map(|number| f32::from_le_bytes(number.try_into().expect("chunks of four bytes")))
                .collect()
        })
    }
}

/// Returns the Euclidean length of an embedding.
pub fn length(embedding: &[f32]) -> f32 {
    embedding.iter().map(|number| number * number).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(numbers: &[f32]) -> Cow<'static, [u8]> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>().into()
    }

    #[test]
    fn rows_come_back_as_they_were_written() {
        let background = Background::new(bytes(&[1.0, 0.0, 0.6, 0.8]), 2, 2).unwrap();
        assert_eq!(background.rows().collect::<Vec<_>>(), [[1.0, 0.0], [0.6, 0.8]]);
    }

    #[test]
    fn other_lengths_and_numbers_are_refused() {
        let problem =
            |numbers: &[f32], rows, width| Background::new(bytes(numbers), rows, width).unwrap_err();
        assert!(problem(&[1.0, 0.0], 2, 2).contains("8 bytes are not 2 rows of 2 float32"));
        assert!(problem(&[1.0, 0.0, 3.0, 4.0], 2, 2).contains("row 1 has length 5, 1 expected"));
        assert!(problem(&[f32::NAN, 0.0], 1, 2).contains("row 0 has length NaN"));
        assert!(problem(&[1.0], usize::MAX, 2).contains("are not"));
    }
}
