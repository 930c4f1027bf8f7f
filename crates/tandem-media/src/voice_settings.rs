//! What a leg does to sound beside carrying it.

use crate::AmbienceSettings;

/// How a leg treats the caller's voice and the quiet behind the agent's.
///
/// By default nothing is changed: G.711 passes byte for byte. The echo guard changes no sound either.
#[derive(Debug, Clone, PartialEq)]
pub struct VoiceSettings {
    /// Noise is taken out of the caller's audio before the model hears it.
    pub denoise: bool,
    /// The caller's level is brought to this one.
    pub gain_control: Option<GainControl>,
    /// The agent's own voice that comes back from a loudspeaker is not taken for the caller's.
    pub echo_guard: bool,
    /// A sound behind the agent's voice, and in its pauses.
    pub ambience: Option<AmbienceSettings>,
}

impl Default for VoiceSettings {
    fn default() -> Self {
        Self { denoise: false, gain_control: None, echo_guard: true, ambience: None }
    }
}

/// Where a caller's level is brought, slowly, and only by what is speech.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GainControl {
    /// Mean level of speech, dB of a full-scale square wave; -40 to -10.
    pub target_db: f32,
    /// Quiet callers are made louder by this at most, dB; 0 to 24.
    pub max_gain_db: f32,
}

impl Default for GainControl {
    fn default() -> Self {
        Self { target_db: -24.0, max_gain_db: 12.0 }
    }
}
