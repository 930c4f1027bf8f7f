//! One port of a leg: the keys in use on it, those before, and the handshake for the next.

use crate::{
    MasterKey, Mki, Protocol, Receiver, Sender, SrtpError, dtls::DtlsKeys, handshakes::Handshakes,
};

/// One port and what protects it.
#[derive(Default)]
pub(crate) struct Path {
    keys: Option<Keys>,
    /// Of the key before, until the peer uses the new one.
    previous: Option<Receiver>,
    pub(crate) handshakes: Option<Handshakes>,
    scratch: Vec<u8>,
}

struct Keys {
    ours: MasterKey,
    theirs: MasterKey,
    mki: Option<Mki>,
    sender: Sender,
    receiver: Receiver,
}

impl Path {
    pub(crate) const fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// The name of the profile in use.
    pub(crate) fn profile(&self) -> Option<&'static str> {
        self.keys.as_ref().map(|keys| keys.ours.profile().name())
    }

    /// Uses these keys from now on. A key that stays keeps its rollover counters and its replay window.
    pub(crate) fn use_keys(&mut self, ours: &MasterKey, theirs: &MasterKey, mki: Option<Mki>) {
        let Some(keys) = &mut self.keys else {
            self.keys = Some(Keys {
                sender: Sender::new(ours),
                receiver: Receiver::new(theirs, mki),
                ours: ours.clone(),
                theirs: theirs.clone(),
                mki,
            });
            return;
        };
        if keys.ours != *ours {
            keys.sender = Sender::new(ours);
            keys.ours = ours.clone();
        }
        if keys.theirs != *theirs || keys.mki != mki {
            let mut receiver = Receiver::new(theirs, mki);
            receiver.succeed(&keys.receiver);
            // Packets under the old key are still under way (RFC 4568 §7.1.4).
            self.previous = Some(std::mem::replace(&mut keys.receiver, receiver));
            keys.theirs = theirs.clone();
            keys.mki = mki;
        }
    }

    pub(crate) fn use_dtls_keys(&mut self, keys: &DtlsKeys) {
        self.use_keys(&keys.ours, &keys.theirs, None);
    }

    /// Decrypts a packet in place; none when there is no key yet.
    pub(crate) fn open(
        &mut self,
        protocol: Protocol,
        packet: &mut [u8],
    ) -> Option<Result<usize, SrtpError>> {
        let receiver = &mut self.keys.as_mut()?.receiver;
        let Some(previous) = &mut self.previous else {
            return Some(open_with(receiver, protocol, packet));
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(packet);
        let opened = open_with(receiver, protocol, packet);
        if opened != Err(SrtpError::Forged) {
            if opened.is_ok() {
                self.previous = None;
            }
            return Some(opened);
        }
        packet.copy_from_slice(&self.scratch);
        Some(open_with(previous, protocol, packet))
    }

    /// Writes the protected form of `packet` to `out`; none when there is no key yet.
    pub(crate) fn seal(
        &mut self,
        protocol: Protocol,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Result<(), SrtpError>> {
        let sender = &mut self.keys.as_mut()?.sender;
        Some(match protocol {
            Protocol::Rtcp => sender.protect_rtcp(packet, out),
            _ => sender.protect_rtp(packet, out),
        })
    }
}

fn open_with(
    receiver: &mut Receiver,
    protocol: Protocol,
    packet: &mut [u8],
) -> Result<usize, SrtpError> {
    match protocol {
        Protocol::Rtcp => receiver.unprotect_rtcp(packet),
        _ => receiver.unprotect_rtp(packet),
    }
}
