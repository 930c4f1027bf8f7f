//! NTP time as RTCP carries it (RFC 3550 §4).

use std::time::Duration;

/// Seconds from 1900 to 1970.
const UNIX_EPOCH_S: u64 = 2_208_988_800;

/// A wall-clock instant: seconds since 1900 in the upper 32 bits, their fraction in the lower.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The instant `unix` after 1970-01-01. The seconds wrap in 2036 as the format does.
    pub const fn from_unix(unix: Duration) -> Self {
        let seconds = unix.as_secs().wrapping_add(UNIX_EPOCH_S) & 0xFFFF_FFFF;
        let fraction = ((unix.subsec_nanos() as u64) << 32) / 1_000_000_000;
        Self(seconds << 32 | fraction)
    }

    /// The middle 32 bits, in 1/65,536 s: the form of LSR (RFC 3550 §6.4.1).
    pub const fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// `duration` in 1/65,536 s, the unit of DLSR; saturates after 18 hours.
pub(crate) fn to_short(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos() * 65_536 / 1_000_000_000).unwrap_or(u32::MAX)
}

/// The duration of `short` units of 1/65,536 s.
pub(crate) const fn from_short(short: u32) -> Duration {
    Duration::from_nanos(short as u64 * 1_000_000_000 / 65_536)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (unix, ntp) in [
            (Duration::ZERO, 2_208_988_800u64 << 32),
            (Duration::from_millis(500), 2_208_988_800 << 32 | 0x8000_0000),
            // The example of RFC 3550 figure 2: 10 Nov 1995 11:33:25.125 UTC.
            (Duration::from_millis(816_003_205_125), 0xB44D_B705_2000_0000),
            // One second after the era ends.
            (Duration::from_secs(2_085_978_497), 1 << 32),
        ] {
            assert_eq!(NtpTime::from_unix(unix), NtpTime(ntp), "{unix:?}");
        }
        assert_eq!(NtpTime(0xB44D_B705_2000_0000).middle(), 0xB705_2000);
    }

    #[test]
    fn short_units_go_both_ways() {
        assert_eq!(to_short(Duration::from_millis(5250)), 0x0005_4000);
        assert_eq!(from_short(0x0005_4000), Duration::from_millis(5250));
        assert_eq!(to_short(Duration::from_secs(100_000)), u32::MAX);
    }
}
