//! What became of each item's audio.

use std::{collections::VecDeque, time::Duration};

use tandem_call::{Cut, ItemId};
use tandem_media::AudioFormat;

/// Items whose account is kept after their audio has gone.
const KEPT: usize = 64;

/// The accounts of the items, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accounts: VecDeque<Account>,
}

#[derive(Debug)]
struct Account {
    item: ItemId,
    /// What came of it in other formats, and the bytes that came of it in `format`.
    received_before: Duration,
    received_bytes: usize,
    format: AudioFormat,
    heard: Duration,
    /// Bytes that wait in the queue.
    queued: usize,
    /// Parts that have left the queue and were not played to their end.
    parts: usize,
    started: bool,
}

impl Account {
    fn received(&self) -> Duration {
        self.received_before + self.format.duration_of(self.received_bytes)
    }

    /// Converted audio may be longer by the part of a sample.
    fn heard(&self) -> Duration {
        self.heard.min(self.received())
    }

    const fn is_settled(&self) -> bool {
        self.queued == 0 && self.parts == 0
    }
}

impl Ledger {
    /// `bytes` of `item` came, of which `accepted` wait in the queue.
    pub(crate) fn receive(
        &mut self,
        item: ItemId,
        format: AudioFormat,
        bytes: usize,
        accepted: usize,
    ) {
        let account = match self.accounts.iter().rposition(|account| account.item == item) {
            Some(position) => &mut self.accounts[position],
            None => self.open(item, format),
        };
        if account.format != format {
            account.received_before = account.received();
            account.received_bytes = 0;
            account.format = format;
        }
        account.received_bytes += bytes;
        account.queued += accepted;
    }

    /// `bytes` of `item` have left the queue.
    pub(crate) fn take(&mut self, item: ItemId, bytes: usize) {
        self.of(item).queued -= bytes;
    }

    /// A part of `item` goes its own way from here.
    pub(crate) fn add_part(&mut self, item: ItemId) {
        self.of(item).parts += 1;
    }

    /// Two parts of `item` are one from here.
    pub(crate) fn join_parts(&mut self, item: ItemId) {
        self.of(item).parts -= 1;
    }

    /// Audio of `item` begins; whether it is its first.
    pub(crate) fn start(&mut self, item: ItemId) -> bool {
        !std::mem::replace(&mut self.of(item).started, true)
    }

    /// Whether audio of `item` has begun.
    pub(crate) fn is_started(&self, item: ItemId) -> bool {
        self.accounts.iter().rfind(|account| account.item == item).is_some_and(|it| it.started)
    }

    /// `length` of `item` was played.
    pub(crate) fn hear(&mut self, item: ItemId, length: Duration) {
        self.of(item).heard += length;
    }

    /// A part of `item` is over; whether nothing more of it waits.
    pub(crate) fn finish_part(&mut self, item: ItemId) -> bool {
        let account = self.of(item);
        account.parts -= 1;
        account.is_settled()
    }

    /// What was heard of `item`, if it is still known.
    pub(crate) fn heard(&self, item: ItemId) -> Option<Duration> {
        self.accounts.iter().rfind(|account| account.item == item).map(Account::heard)
    }

    /// All that was not played is thrown away; the items that lost some.
    pub(crate) fn cut(&mut self) -> Vec<Cut> {
        let mut cut = Vec::new();
        for account in self.accounts.iter_mut().filter(|account| !account.is_settled()) {
            (account.queued, account.parts) = (0, 0);
            let (heard, received) = (account.heard(), account.received());
            cut.push(Cut { item: account.item, heard, received });
        }
        cut
    }

    fn open(&mut self, item: ItemId, format: AudioFormat) -> &mut Account {
        while self.accounts.len() >= KEPT
            && let Some(oldest) = self.accounts.iter().position(Account::is_settled)
        {
            self.accounts.remove(oldest);
        }
        self.accounts.push_back(Account {
            item,
            received_before: Duration::ZERO,
            received_bytes: 0,
            format,
            heard: Duration::ZERO,
            queued: 0,
            parts: 0,
            started: false,
        });
        self.accounts.back_mut().expect("it was pushed")
    }

    fn of(&mut self, item: ItemId) -> &mut Account {
        self.accounts
            .iter_mut()
            .rfind(|account| account.item == item)
            .expect("an item with audio has an account")
    }
}
