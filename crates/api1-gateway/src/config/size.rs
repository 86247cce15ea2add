//! Amounts of bytes a person writes: `1048576`, `512KiB`, `1MiB`, `2GiB`.

use std::fmt;
use std::str::FromStr;

/// The units, largest first, in bytes. Powers of 1024 only, and so named: "1MB" would leave the reader guessing.
const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// An amount of bytes, read from and written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Why a text is not an amount of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an amount of bytes such as 1048576, 512KiB, 1MiB or 2GiB")]
pub struct NotAByteSize;

impl FromStr for ByteSize {
    type Err = NotAByteSize;

    fn from_str(text: &str) -> Result<Self, NotAByteSize> {
        let unit = UNITS.iter().find_map(|(name, bytes)| Some((text.strip_suffix(name)?, *bytes)));
        let (number, unit_bytes) = unit.unwrap_or((text, 1));
        let number = number.trim_end();
        let digits_only = number.bytes().all(|byte| byte.is_ascii_digit());
        let amount = number.parse::<u64>().ok().filter(|_| digits_only);
        amount.and_then(|amount| amount.checked_mul(unit_bytes)).map(ByteSize).ok_or(NotAByteSize)
    }
}

impl fmt::Display for ByteSize {
    /// In the largest unit that divides it, so that it is read back as the same amount.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => self.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_is_a_whole_number_of_bytes_or_of_a_binary_unit() {
        for (text, bytes) in [("0", 0), ("1048576", 1 << 20), ("512KiB", 512 << 10), ("2 GiB", 2 << 30)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "MiB", "-1", "+1", "1.5MiB", "1MB", "1M", "lots", "18446744073709551615KiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(NotAByteSize), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(bytes: u64, shift in 0u32..64) {
            let size = ByteSize(bytes << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
