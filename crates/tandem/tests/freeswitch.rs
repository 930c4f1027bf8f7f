//! Whole calls beside a FreeSWITCH: the real daemon, forks, event sockets, telephones.
//!
//! Each story is played twice: against the fake switch of `tandem-sim`, and against a real one where one is named:
//! `TANDEM_FREESWITCH=127.0.0.1:8021`. Of it nothing is needed but its event socket, mod_sofia and a fork module: the telephones
//! are our own, so it has to be on this machine. Also understood: `TANDEM_FREESWITCH_PASSWORD` (without it the stock one),
//! `TANDEM_FREESWITCH_PROFILE` (the SIP profile that calls us, `internal`), `TANDEM_FREESWITCH_MODULE` (the edition of the fork module
//! as `freeswitch.module` calls it) and `TANDEM_FREESWITCH_CALLS` (how many calls outlive the event socket, 10).

mod common;
#[path = "freeswitch/desk.rs"]
mod desk;
#[path = "freeswitch/event_socket.rs"]
mod event_socket;
#[path = "freeswitch/fake.rs"]
mod fake;
#[path = "freeswitch/house.rs"]
mod house;
#[path = "freeswitch/line_audio.rs"]
mod line_audio;
#[path = "freeswitch/proxy.rs"]
mod proxy;
#[path = "freeswitch/real.rs"]
mod real;
#[path = "freeswitch/speech.rs"]
mod speech;
#[path = "freeswitch/stage.rs"]
mod stage;
#[path = "freeswitch/stories.rs"]
mod stories;

use tandem_sim::freeswitch::SwitchConfig;
use tokio::runtime::Runtime;

use self::{
    fake::FakeStage,
    house::{House, Setup},
    real::RealStage,
    stage::Stage,
};

/// Opens the stage of a story.
type Open = fn(&Runtime) -> Box<dyn Stage>;

/// Where a story is played.
pub(crate) struct Theatre {
    runtime: Runtime,
    open: Open,
}

impl Theatre {
    /// With a real switch, where the environment names one.
    fn real() -> Option<Self> {
        RealStage::find()?;
        Some(Self::new(|_| Box::new(RealStage::find().expect("it was found before"))))
    }

    fn new(open: Open) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads can be had");
        Self { runtime, open }
    }

    /// A daemon beside the switch.
    pub(crate) fn house(&self, setup: &Setup) -> House {
        self.house_at(self.stage(), setup)
    }

    /// The same beside a switch that was looked at before.
    pub(crate) fn house_at(&self, stage: Box<dyn Stage>, setup: &Setup) -> House {
        House::start(stage, self.runtime.handle(), setup)
    }

    /// A switch.
    pub(crate) fn stage(&self) -> Box<dyn Stage> {
        (self.open)(&self.runtime)
    }

    /// What a caller says.
    pub(crate) fn words(&self) -> Vec<i16> {
        speech::words(self.runtime.handle())
    }
}

fn open_fake(runtime: &Runtime) -> Box<dyn Stage> {
    Box::new(FakeStage::start(runtime.handle(), SwitchConfig::default()))
}

/// Plays each story against the fake switch and, where one is named, against a real one.
macro_rules! play {
    ($($story:ident: $($what:ident)::+;)+) => {
        $(
            #[test]
            fn $story() {
                $($what)::+(&Theatre::new(open_fake));
            }
        )+

        /// The same against the switch that the environment names.
        mod real_freeswitch {
            $(
                #[test]
                #[ignore = "needs a FreeSWITCH: make test-freeswitch"]
                fn $story() {
                    if let Some(theatre) = super::Theatre::real() {
                        super::$($what)::+(&theatre);
                    }
                }
            )+
        }
    };
}

play! {
    a_call_is_handed_over_by_a_socket: stories::handing_over::by_socket;
    a_call_is_handed_over_by_a_socket_alone: stories::handing_over::by_socket_alone;
    a_call_begins_with_its_fork: stories::handing_over::by_fork;
    a_call_is_nothing_but_a_fork: stories::handing_over::by_fork_alone;
    a_fork_without_the_right_token_is_refused: stories::handing_over::by_fork_of_a_stranger;
    a_fork_that_starts_no_call_leaves_nobody_in_silence: stories::handing_over::by_fork_in_vain;
    a_fork_of_a_switch_that_is_away_is_a_call: stories::handing_over::by_fork_of_another_switch;
    calls_that_are_not_ours_go_back: stories::handing_over::given_back;
    the_greeting_is_heard_soon: stories::ending::greeted_soon;
    callers_hang_up_in_the_greeting: stories::ending::in_the_greeting;
    a_caller_holds_and_comes_back: stories::ending::hold;
    a_transfer_is_answered: stories::transfer::answered;
    a_transfer_is_not_answered: stories::transfer::not_answered;
    a_transfer_is_announced: stories::transfer::announced;
    a_transfer_is_announced_to_the_end: stories::transfer::announced_to_the_end;
    a_transfer_is_declined: stories::transfer::declined;
    a_caller_hangs_up_in_a_transfer: stories::transfer::caller_hangs_up;
    a_transfer_goes_to_each_place_of_the_switch: stories::places::handed_over;
    a_transfer_to_a_place_that_does_not_exist_fails: stories::places::that_do_not_exist;
    a_transfer_goes_to_a_fifo: stories::places::handed_to_a_fifo;
    a_transfer_goes_through_a_gateway: stories::places::through_a_gateway;
    a_transfer_goes_to_a_ring_group: stories::places::to_a_ring_group;
    a_caller_speaks_over_the_agent: stories::barge_in::falls_silent;
    a_fork_that_breaks_comes_again: stories::forks::comes_again;
    a_fork_that_never_comes_again_ends_the_call: stories::forks::given_up;
    a_fork_finds_its_channel_late: stories::forks::linked_late;
    a_fork_of_the_dialplan_ends_the_call: stories::forks::of_the_dialplan;
    the_event_socket_goes_away_and_comes_back: stories::outage::survived;
    callers_of_a_daemon_that_died_are_let_go_of: stories::orphans::let_go;
    the_jambonz_edition_talks: stories::modules::jambonz;
    the_drachtio_edition_talks: stories::modules::drachtio;
    the_stream_edition_talks: stories::modules::stream;
    the_agent_controls_its_channel: stories::controls::carried_out;
    the_agent_calls_a_third_person: stories::controls::three_way;
    a_fork_alone_can_not_be_controlled: stories::controls::of_a_fork_alone;
    an_operator_holds_the_caller: stories::operator::holds;
    an_operator_deflects_the_caller: stories::operator::deflects;
    an_operator_has_something_read_out: stories::operator::speaks;
    a_person_transfers_by_keys: stories::operator::transfers_by_keys;
    an_operator_moves_the_caller: stories::taken_over::moved;
    an_operator_joins_the_caller: stories::taken_over::bridged;
}

#[test]
fn a_caller_hangs_up_while_it_rings() {
    stories::ending::while_it_rings(&Theatre::new(open_fake));
}

#[test]
fn the_phone_is_answered_by_us() {
    stories::ending::answered_by_us(&Theatre::new(open_fake));
}

#[test]
fn a_fork_that_starts_no_call_falls_back() {
    stories::handing_over::by_fork_in_vain_with_a_fallback(&Theatre::new(open_fake));
}

#[test]
fn a_call_without_a_fork_falls_back() {
    stories::forks::fallen_back(&Theatre::new(open_fake));
}
