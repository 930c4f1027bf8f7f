//! Answers every call and sends no media: a target for SIP load generators.
//!
//! `answer 127.0.0.1:5060 [transfer-target]` listens on UDP and TCP; with a target each call is handed over half a
//! second after the answer. With RING_ONLY in the environment nothing is answered, with VERBOSE every event is printed.
//! Prints what is there once a second.

use std::{net::SocketAddr, time::Duration};

use tandem_call::{TransferKind, TransferTarget};
use tandem_media::Codec;
use tandem_sip::{Listener, LocalMedia, LocalSecurity, SipEndpoint, SipSettings, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let addr: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:5060").parse()?;
    let target = arguments.next();
    let listen =
        [Transport::Udp, Transport::Tcp].map(|transport| Listener { transport, addr }).to_vec();
    let (handle, mut calls) =
        SipEndpoint::bind(SipSettings { listen, ..SipSettings::default() }).await?;
    let watch = handle.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
            println!("{:?} descriptors {descriptors}", watch.stats());
        }
    });
    while let Some(mut call) = calls.recv().await {
        let target = target.clone();
        tokio::spawn(async move {
            let codecs = vec![Codec::PCMU, Codec::PCMA];
            call.dialog.progress();
            if std::env::var_os("RING_ONLY").is_some() {
                while call.events.recv().await.is_some() {}
                return;
            }
            call.dialog.accept(LocalMedia {
                address: call.local,
                rtp_port: 40000,
                rtcp_port: 40001,
                codecs,
                security: LocalSecurity::default(),
            });
            if let Some(target) = target {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let target = TransferTarget::new(TransferKind::Extension, target);
                call.dialog.transfer(target, Vec::new());
            }
            while let Some(event) = call.events.recv().await {
                if std::env::var_os("VERBOSE").is_some() {
                    println!("{:?} {event:?}", call.id);
                }
            }
        });
    }
    drop(handle);
    Ok(())
}
