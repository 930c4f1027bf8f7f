//! The stories, each a function over a theatre.

#[path = "stories/barge_in.rs"]
pub(crate) mod barge_in;
#[path = "stories/controls.rs"]
pub(crate) mod controls;
#[path = "stories/ending.rs"]
pub(crate) mod ending;
#[path = "stories/forks.rs"]
pub(crate) mod forks;
#[path = "stories/handing_over.rs"]
pub(crate) mod handing_over;
#[path = "stories/modules.rs"]
pub(crate) mod modules;
#[path = "stories/operator.rs"]
pub(crate) mod operator;
#[path = "stories/orphans.rs"]
pub(crate) mod orphans;
#[path = "stories/outage.rs"]
pub(crate) mod outage;
#[path = "stories/places.rs"]
pub(crate) mod places;
#[path = "stories/taken_over.rs"]
pub(crate) mod taken_over;
#[path = "stories/transfer.rs"]
pub(crate) mod transfer;
