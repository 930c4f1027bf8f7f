//! What a reload leaves as it is: the settings that a running daemon has bound, opened or started with.

use secrecy::{ExposeSecret, SecretString};
use tandem_attendant::VoiceSettings;
use tandem_exchange::ConsultSettings;
use tandem_pbx::TransferSettings;
use tandem_sip::{Credential, SipSettings};

use super::{
    Config, FreeswitchConfig, Limits, MediaConfig, MetricsConfig, RecordsConfig, SwitchConfig,
    freeswitch::default_url, listeners::default_bind,
};

/// The settings that hold from the start of the daemon to its end.
#[derive(Debug, Clone)]
pub struct FixedSettings {
    sip: SipSettings,
    consult: ConsultSettings,
    media: MediaConfig,
    limits: Limits,
    records: RecordsConfig,
    freeswitch: Option<FreeswitchConfig>,
    voice: VoiceSettings,
    requests: usize,
    metrics: Option<MetricsConfig>,
}

impl FixedSettings {
    /// Those of `config`.
    pub fn of(config: &Config) -> Self {
        Self {
            sip: config.sip.clone(),
            consult: config.consult.clone(),
            media: config.media.clone(),
            limits: config.limits.clone(),
            records: config.records.clone(),
            freeswitch: config.freeswitch.clone(),
            voice: config.voice.clone(),
            requests: config.tools.in_all,
            metrics: config.metrics.clone(),
        }
    }

    /// The keys under which `config` says something else, in the order of the documentation: `sip.listen`.
    pub fn changed_keys(&self, config: &Config) -> Vec<&'static str> {
        let mut changed = Changed(Vec::new());
        changed.compare_sip(&self.sip, &config.sip);
        changed.note("sip.transfer", !same_consult(&self.consult, &config.consult));
        changed.compare_media(self, config);
        let Limits { max_calls, answer_after, drain } = &self.limits;
        changed.compare("limits.max_calls", max_calls, &config.limits.max_calls);
        changed.compare("limits.answer_after_ms", answer_after, &config.limits.answer_after);
        changed.compare("limits.drain_s", drain, &config.limits.drain);
        let RecordsConfig { path } = &self.records;
        changed.compare("records.path", path, &config.records.path);
        match (&self.freeswitch, &config.freeswitch) {
            (Some(running), Some(read)) => changed.compare_freeswitch(running, read),
            (running, read) => changed.note("freeswitch", running.is_some() != read.is_some()),
        }
        let VoiceSettings { engines, flite_voice, cache_dir, cache_bytes } = &self.voice;
        changed.compare("attendant.engines", engines, &config.voice.engines);
        changed.compare("attendant.flite_voice", flite_voice, &config.voice.flite_voice);
        changed.compare("attendant.cache_dir", cache_dir, &config.voice.cache_dir);
        changed.compare("attendant.cache_bytes", cache_bytes, &config.voice.cache_bytes);
        changed.compare("tools.max_requests", &self.requests, &config.tools.in_all);
        let listen = |metrics: &Option<MetricsConfig>| metrics.as_ref().map(|it| it.listen);
        changed.compare("metrics.listen", &listen(&self.metrics), &listen(&config.metrics));
        let token =
            |metrics: &'_ Option<MetricsConfig>| metrics.as_ref().and_then(|it| it.token.clone());
        let (running, read) = (token(&self.metrics), token(&config.metrics));
        changed.note("metrics.token", !same_secret(running.as_ref(), read.as_ref()));
        changed.0
    }
}

/// The keys whose values differ. Structs are taken apart whole, so that a new field can't be forgotten here.
struct Changed(Vec<&'static str>);

impl Changed {
    fn compare<T: PartialEq>(&mut self, key: &'static str, running: &T, read: &T) {
        self.note(key, running != read);
    }

    fn note(&mut self, key: &'static str, differs: bool) {
        if differs {
            self.0.push(key);
        }
    }

    fn compare_sip(&mut self, running: &SipSettings, read: &SipSettings) {
        let SipSettings {
            listen,
            advertised,
            media_address: _, // That of [media].
            trusted,
            users,
            realm,
            session_expires,
            min_se,
            codecs,
            codec_preference,
            security: _, // That of [media].
            refer_templates,
            refer_to_headers,
            transfer_timeout: _, // Agents have their own.
            ring_timeout,
            limits,
            user_agent: _,   // Has no key.
            contact_user: _, // Has no key.
            retry_after,
        } = running;
        let tandem_sip::Limits {
            unacked,
            unacked_per_source,
            requests_per_second_per_source,
            burst,
            dialogs: _, // Follows from limits.max_calls.
            connections,
        } = limits;
        self.compare("sip.listen", listen, &read.listen);
        self.compare("sip.advertised", advertised, &read.advertised);
        self.compare("sip.trusted", trusted, &read.trusted);
        self.note("sip.users", !same_users(users, &read.users));
        self.compare("sip.realm", realm, &read.realm);
        self.compare("sip.codecs", codecs, &read.codecs);
        self.compare("sip.codec_preference", codec_preference, &read.codec_preference);
        self.compare("sip.session_expires_s", session_expires, &read.session_expires);
        self.compare("sip.min_session_expires_s", min_se, &read.min_se);
        self.compare("sip.refer", refer_templates, &read.refer_templates);
        self.compare("sip.refer_to_headers", refer_to_headers, &read.refer_to_headers);
        self.compare("sip.ring_timeout_s", ring_timeout, &read.ring_timeout);
        self.compare("sip.retry_after_s", retry_after, &read.retry_after);
        self.compare("sip.max_unacked", unacked, &read.limits.unacked);
        self.compare(
            "sip.max_unacked_per_source",
            unacked_per_source,
            &read.limits.unacked_per_source,
        );
        self.compare("sip.max_connections", connections, &read.limits.connections);
        self.compare(
            "sip.requests_per_second",
            requests_per_second_per_source,
            &read.limits.requests_per_second_per_source,
        );
        self.compare("sip.request_burst", burst, &read.limits.burst);
    }

    fn compare_freeswitch(&mut self, running: &FreeswitchConfig, read: &FreeswitchConfig) {
        let FreeswitchConfig {
            listen,
            url,
            prefix,
            user,
            token,
            open_to_loopback,
            outbound,
            outbound_allowed,
            module,
            rate,
            variables,
            fallback,
            stream_clear,
            transfer,
            tools,
            switches,
        } = running;
        self.compare("freeswitch.listen", listen, &read.listen);
        // Where nobody wrote it, it only follows the listeners.
        let follows = Some(url) == default_url(listen).as_ref()
            && Some(&read.url) == default_url(&read.listen).as_ref();
        self.note("freeswitch.url", *url != read.url && !follows);
        self.compare("freeswitch.prefix", prefix, &read.prefix);
        self.compare("freeswitch.module", module, &read.module);
        let open = |user: &'_ Option<(String, SecretString)>| {
            user.as_ref().map(|(name, word)| (name.clone(), word.expose_secret().to_owned()))
        };
        self.note("freeswitch.user", open(user) != open(&read.user));
        self.note("freeswitch.token", !same_secret(token.as_ref(), read.token.as_ref()));
        self.compare("freeswitch.open_to_loopback", open_to_loopback, &read.open_to_loopback);
        self.compare("freeswitch.outbound", outbound, &read.outbound);
        self.compare("freeswitch.outbound_allowed", outbound_allowed, &read.outbound_allowed);
        self.compare("freeswitch.rate", rate, &read.rate);
        self.compare("freeswitch.variables", variables, &read.variables);
        self.compare("freeswitch.fallback", fallback, &read.fallback);
        self.compare("freeswitch.stream_clear", stream_clear, &read.stream_clear);
        self.note("freeswitch.transfer", !same_transfers(transfer, &read.transfer));
        self.compare("freeswitch.tools", tools, &read.tools);
        let same = switches.len() == read.switches.len()
            && switches.iter().zip(&read.switches).all(|(one, other)| same_switch(one, other));
        self.note("freeswitch.switches", !same);
    }

    fn compare_media(&mut self, running: &FixedSettings, read: &Config) {
        let MediaConfig { bind, address, ports, timeout, workers, srtp, srtp_best_effort } =
            &running.media;
        // Where nobody wrote it, it only follows the listeners.
        let follows = *bind == default_bind(&running.sip.listen)
            && read.media.bind == default_bind(&read.sip.listen);
        self.note("media.bind", *bind != read.media.bind && !follows);
        self.compare("media.address", address, &read.media.address);
        self.compare("media.ports", ports, &read.media.ports);
        self.compare("media.timeout_s", timeout, &read.media.timeout);
        self.compare("media.workers", workers, &read.media.workers);
        self.compare("media.srtp", srtp, &read.media.srtp);
        self.compare("media.srtp_best_effort", srtp_best_effort, &read.media.srtp_best_effort);
    }
}

fn same_consult(running: &ConsultSettings, read: &ConsultSettings) -> bool {
    let ConsultSettings { announcement, accept, ring_timeout, credentials } = running;
    *announcement == read.announcement
        && *accept == read.accept
        && *ring_timeout == read.ring_timeout
        && same_users(credentials.as_slice(), read.credentials.as_slice())
}

fn same_users(running: &[Credential], read: &[Credential]) -> bool {
    let same = |(one, other): (&Credential, &Credential)| {
        let Credential { username, password } = one;
        *username == other.username && password.expose_secret() == other.password.expose_secret()
    };
    running.len() == read.len() && running.iter().zip(read).all(same)
}

fn same_secret(one: Option<&SecretString>, other: Option<&SecretString>) -> bool {
    one.map(ExposeSecret::expose_secret) == other.map(ExposeSecret::expose_secret)
}

fn same_transfers(one: &TransferSettings, other: &TransferSettings) -> bool {
    let TransferSettings {
        domain,
        context,
        gateway,
        profile,
        actions,
        ring_timeout,
        ringback,
        hold_music,
        announcement,
    } = one;
    *domain == other.domain
        && *context == other.context
        && *gateway == other.gateway
        && *profile == other.profile
        && *actions == other.actions
        && *ring_timeout == other.ring_timeout
        && *ringback == other.ringback
        && *hold_music == other.hold_music
        && *announcement == other.announcement
}

fn same_switch(one: &SwitchConfig, other: &SwitchConfig) -> bool {
    let SwitchConfig { name, address, user, password } = one;
    *name == other.name
        && *address == other.address
        && *user == other.user
        && same_secret(Some(password), Some(&other.password))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Config {
        read_with_password(text, "old")
    }

    fn read_with_password(text: &str, password: &str) -> Config {
        let variable = |name: &str| match name {
            "PASSWORD" => Some(password.to_owned()),
            "TOKEN" => Some(format!("{password}-0123456789abcdef")),
            _ => None,
        };
        let (config, findings) = Config::read(Path::new("t.toml"), text, &variable);
        config.unwrap_or_else(|| panic!("{findings}"))
    }

    #[test]
    fn every_key_that_waits_for_the_next_start_is_named() {
        let running = FixedSettings::of(&read(""));
        for (text, keys) in [
            ("[sip]\nlisten = [\"udp:127.0.0.9:5060\"]\n", "sip.listen"),
            ("[sip]\nadvertised = \"192.0.2.7\"\n", "sip.advertised"),
            ("[sip]\ntrusted = [\"10.0.0.0/8\"]\n", "sip.trusted"),
            ("[sip]\nusers = [{ username = \"a\", password_env = \"PASSWORD\" }]\n", "sip.users"),
            ("[sip]\nrealm = \"pbx\"\n", "sip.realm"),
            ("[sip]\ncodecs = [\"pcma\"]\n", "sip.codecs"),
            ("[sip]\ncodec_preference = \"theirs\"\n", "sip.codec_preference"),
            ("[sip]\nsession_expires_s = 600\n", "sip.session_expires_s"),
            ("[sip]\nmin_session_expires_s = 100\n", "sip.min_session_expires_s"),
            ("[sip.refer]\nqueue = \"sip:q-{target}@{host}\"\n", "sip.refer"),
            ("[sip]\nrefer_to_headers = true\n", "sip.refer_to_headers"),
            ("[sip]\nring_timeout_s = 10\n", "sip.ring_timeout_s"),
            ("[sip]\nretry_after_s = 9\n", "sip.retry_after_s"),
            ("[sip]\nmax_unacked = 9\n", "sip.max_unacked"),
            ("[sip]\nmax_unacked_per_source = 9\n", "sip.max_unacked_per_source"),
            ("[sip]\nmax_connections = 9\n", "sip.max_connections"),
            ("[sip]\nrequests_per_second = 9\n", "sip.requests_per_second"),
            ("[sip]\nrequest_burst = 9\n", "sip.request_burst"),
            ("[media]\nbind = \"0.0.0.0\"\n", "media.bind"),
            ("[media]\naddress = \"192.0.2.7\"\n", "media.address"),
            ("[media]\nports = \"30000-39999\"\n", "media.ports"),
            ("[media]\ntimeout_s = 9\n", "media.timeout_s"),
            ("[media]\nworkers = 9\n", "media.workers"),
            ("[media]\nsrtp = \"require\"\n", "media.srtp"),
            ("[media]\nsrtp_best_effort = false\n", "media.srtp_best_effort"),
            ("[limits]\nmax_calls = 9\n", "limits.max_calls"),
            ("[limits]\nanswer_after_ms = 9\n", "limits.answer_after_ms"),
            ("[limits]\ndrain_s = 9\n", "limits.drain_s"),
            ("[records]\npath = \"r.jsonl\"\n", "records.path"),
            ("[attendant]\nengines = []\n", "attendant.engines"),
            ("[attendant]\nflite_voice = \"rms\"\n", "attendant.flite_voice"),
            ("[attendant]\ncache_dir = \"speech\"\n", "attendant.cache_dir"),
            ("[attendant]\ncache_bytes = 9\n", "attendant.cache_bytes"),
            ("[freeswitch]\n", "freeswitch"),
            ("[tools]\nmax_requests = 9\n", "tools.max_requests"),
            ("[metrics]\nlisten = \"127.0.0.1:9464\"\n", "metrics.listen"),
            (
                "[sip]\nlisten = [\"udp:127.0.0.1:5099\"]\n[media]\nports = \"30000-39999\"\n",
                "sip.listen, media.ports",
            ),
        ] {
            assert_eq!(running.changed_keys(&read(text)).join(", "), keys, "{text}");
        }
    }

    #[test]
    fn every_key_of_freeswitch_waits_for_the_next_start() {
        let running = FixedSettings::of(&read("[freeswitch]\n"));
        for (line, key) in [
            ("listen = [\"127.0.0.1:9\"]", "listen"),
            ("listen = [\"0.0.0.0:9\"]", "listen"),
            ("listen = [\"127.0.0.1:9\"]\nurl = \"ws://a\"", "listen, freeswitch.url"),
            ("url = \"ws://a\"", "url"),
            ("prefix = \"/a\"", "prefix"),
            ("module = \"stream\"", "module"),
            ("user = { username = \"a\", password_env = \"PASSWORD\" }", "user"),
            ("token_env = \"TOKEN\"", "token"),
            ("open_to_loopback = true", "open_to_loopback"),
            ("outbound = []", "outbound"),
            ("outbound_allowed = [\"127.0.0.0/9\"]", "outbound_allowed"),
            ("rate = 16000", "rate"),
            ("variables = []", "variables"),
            ("fallback = \"1\"", "fallback"),
            ("stream_clear = \"x\"", "stream_clear"),
            ("transfer = { queue = \"inline fifo:{target} in\" }", "transfer"),
            ("transfer = { domain = \"a\" }", "transfer"),
            ("transfer = { context = \"a\" }", "transfer"),
            ("transfer = { gateway = \"a\" }", "transfer"),
            ("transfer = { profile = \"a\" }", "transfer"),
            ("transfer = { ring_timeout_s = 9 }", "transfer"),
            ("transfer = { ringback = \"a\" }", "transfer"),
            ("transfer = { hold_music = \"a\" }", "transfer"),
            ("transfer = { announcement = \"a\" }", "transfer"),
            ("tools = { sounds = { a = \"b\" } }", "tools"),
            ("switches = { a = { address = \"b\", password_env = \"PASSWORD\" } }", "switches"),
        ] {
            let read = read(&format!("[freeswitch]\n{line}\n"));
            let keys = running.changed_keys(&read).join(", ");
            assert_eq!(keys, format!("freeswitch.{key}"), "{line}");
            assert_eq!(FixedSettings::of(&read).changed_keys(&read), [""; 0], "{line}");
        }
        assert_eq!(running.changed_keys(&read("")), ["freeswitch"]);
    }

    #[test]
    fn agents_models_and_numbers_are_not_among_them() {
        let running = FixedSettings::of(&read(""));
        let text = "[attendant.script]\ngreeting = \"Hi.\"\n[models.openai]\nmodel = \"x\"\n[agents.a]\ntransfer_timeout_s = 300\n[numbers]\n\"1\" = \"a\"\n";
        assert_eq!(running.changed_keys(&read(text)), [""; 0]);
    }

    #[test]
    fn a_password_that_changed_counts() {
        let text = "[sip]\nusers = [{ username = \"a\", password_env = \"PASSWORD\" }]\n";
        let running = FixedSettings::of(&read(text));
        assert_eq!(running.changed_keys(&read(text)), [""; 0]);
        assert_eq!(running.changed_keys(&read_with_password(text, "new")), ["sip.users"]);
        let text = "[freeswitch]\ntoken_env = \"TOKEN\"\nuser = { username = \"a\", password_env = \"PASSWORD\" }\n[freeswitch.switches.a]\naddress = \"b\"\npassword_env = \"PASSWORD\"\n";
        let running = FixedSettings::of(&read(text));
        assert_eq!(running.changed_keys(&read(text)), [""; 0]);
        assert_eq!(
            running.changed_keys(&read_with_password(text, "new")),
            ["freeswitch.user", "freeswitch.token", "freeswitch.switches"]
        );
    }
}
