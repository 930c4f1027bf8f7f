//! What a call's agent has switched on beside carrying sound.

use tandem_media::{AmbienceSettings, AmbientSound, GainControl, Room, VoiceSettings};

/// What is done to the sound of a call, and who else gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extras {
    /// The agent's own voice from a loudspeaker is no interruption.
    pub echo_guard: bool,
    /// Noise is taken out of the caller's voice.
    pub noise_suppression: bool,
    /// The caller's level is brought to the usual one.
    pub gain_control: bool,
    /// A room is heard behind the agent's voice.
    pub ambience: bool,
    /// Both sides are recorded.
    pub recording: bool,
    /// Media is protected by AES_CM_128_HMAC_SHA1_80.
    pub srtp: bool,
}

impl Extras {
    /// Nothing at all.
    pub const NONE: Self = Self {
        echo_guard: false,
        noise_suppression: false,
        gain_control: false,
        ambience: false,
        recording: false,
        srtp: false,
    };
    /// What a call has whose agent asks for nothing.
    pub const DEFAULT: Self = Self { echo_guard: true, ..Self::NONE };
    /// Everything there is.
    pub const EVERYTHING: Self = Self {
        echo_guard: true,
        noise_suppression: true,
        gain_control: true,
        ambience: true,
        recording: true,
        srtp: true,
    };
    /// One thing each beside the default, with what a table calls it.
    pub const EACH: [(&str, Self); 5] = [
        ("noise suppression", Self { noise_suppression: true, ..Self::DEFAULT }),
        ("gain control", Self { gain_control: true, ..Self::DEFAULT }),
        ("ambience", Self { ambience: true, ..Self::DEFAULT }),
        ("recording", Self { recording: true, ..Self::DEFAULT }),
        ("SRTP", Self { srtp: true, ..Self::DEFAULT }),
    ];

    /// The same for a leg.
    pub(crate) fn voice(self) -> VoiceSettings {
        VoiceSettings {
            denoise: self.noise_suppression,
            gain_control: self.gain_control.then(GainControl::default),
            echo_guard: self.echo_guard,
            ambience: self.ambience.then(|| AmbienceSettings {
                sound: AmbientSound::shared(Room::Office),
                level_db: AmbienceSettings::USUAL_DB,
            }),
        }
    }
}
