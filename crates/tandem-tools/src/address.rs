//! Which addresses may be connected to: what a configuration names must not lead into the network that Tandem runs in.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use ipnet::IpNet;
use url::{Host, Url};

/// Why an address is not connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `https` nor `http`, or no host in it.
    #[error("only https:// and http:// URLs can be called")]
    Scheme,
    /// A URL holds a user name or a password, which would end up in logs.
    #[error("credentials do not belong into a URL")]
    Credentials,
    /// The address is private, local or otherwise not a host of the Internet, and no allowed network holds it.
    #[error("{host} is {address}, which is no public address; allow its network to call it")]
    NotPublic { host: String, address: IpAddr },
    /// Without TLS only allowed networks are called.
    #[error("{host} is called without TLS; use https:// or allow its network")]
    Plain { host: String },
}

/// Public addresses, and those of the allowed networks.
#[derive(Debug, Clone, Default)]
pub struct AddressRule {
    allowed: Arc<[IpNet]>,
}

impl AddressRule {
    /// Lets public addresses and those in `allowed` through.
    pub fn new(allowed: impl Into<Arc<[IpNet]>>) -> Self {
        Self { allowed: allowed.into() }
    }

    /// Whether an allowed network holds `address`; an IPv4 address in IPv6 dress is the IPv4 address.
    pub fn allows(&self, address: IpAddr) -> bool {
        let plain = address.to_canonical();
        self.allowed.iter().any(|network| network.contains(&plain) || network.contains(&address))
    }

    /// Checks an `address` that `host` stands for; `plain` = the connection has no TLS.
    ///
    /// # Errors
    ///
    /// [`AddressError::NotPublic`] and [`AddressError::Plain`] when no allowed network holds it.
    pub fn check(&self, host: &str, address: IpAddr, plain: bool) -> Result<(), AddressError> {
        if self.allows(address) {
            return Ok(());
        }
        if !is_public(address) {
            return Err(AddressError::NotPublic { host: host.to_owned(), address });
        }
        if plain {
            return Err(AddressError::Plain { host: host.to_owned() });
        }
        Ok(())
    }

    /// Checks what can be known of `url` without asking anybody: the scheme and an address in the place of a name.
    ///
    /// # Errors
    ///
    /// As [`AddressRule::check`], and for URLs that are of no use here.
    pub fn check_url(&self, url: &Url) -> Result<(), AddressError> {
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(AddressError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(AddressError::Credentials);
        }
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(&address.to_string(), address.into(), plain),
            Some(Host::Ipv6(address)) => self.check(&address.to_string(), address.into(), plain),
            Some(Host::Domain(name)) if plain && self.allowed.is_empty() => {
                Err(AddressError::Plain { host: name.to_owned() })
            }
            Some(Host::Domain(_)) => Ok(()),
            None => Err(AddressError::Scheme),
        }
    }
}

/// Whether `address` is one of the Internet: none of the special registries (RFC 6890) has it for anything else.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let special = match address.octets() {
        [0 | 10 | 127, ..] => true,
        [100, second, ..] => second & 0xC0 == 64, // Carrier-grade NAT, RFC 6598.
        [169, 254, ..] => true, // Link-local, RFC 3927: the metadata services of clouds.
        [172, second, ..] => second & 0xF0 == 16,
        [192, 0, 0 | 2, _] => true,
        [192, 88, 99, _] => true,
        [192, 168, ..] => true,
        [198, 18 | 19, ..] => true, // Benchmarks, RFC 2544.
        [198, 51, 100, _] | [203, 0, 113, _] => true,
        [224..=255, ..] => true, // Multicast, reserved, broadcast.
        _ => false,
    };
    !special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let last_v4 = || {
        let [.., a, b, c, d] = address.octets();
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xFFFF, ..] => is_public_v4(last_v4()), // Mapped, RFC 4291 §2.5.5.2.
        [0x64, 0xFF9B, 0, 0, 0, 0, ..] => is_public_v4(last_v4()), // NAT64, RFC 6052.
        [0x2002, a, b, ..] => {
            // 6to4, RFC 3056.
            let [[a, b], [c, d]] = [a, b].map(u16::to_be_bytes);
            is_public_v4(Ipv4Addr::new(a, b, c, d))
        }
        [0x2001, second, ..] if second < 0x200 => false, // Protocol assignments, Teredo among them, RFC 2928.
        [0x2001, 0xDB8, ..] => false,
        [0x3FFF, second, ..] if second < 0x1000 => false, // Documentation, RFC 9637.
        [first, ..] => first & 0xE000 == 0x2000,          // Global unicast, RFC 4291 §2.4.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "3ffe::1",
        ] {
            assert!(is_public(address(text)), "{text}");
        }
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.9.1",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "::ffff:0:127.0.0.1",
        ] {
            assert!(!is_public(address(text)), "{text}");
        }
    }

    #[test]
    fn an_allowed_network_lets_its_addresses_through_and_no_others() {
        let rule = AddressRule::new(["10.1.0.0/16", "fd00::/8"].map(|net| net.parse().unwrap()));
        for (text, plain, good) in [
            ("10.1.2.3", false, true),
            ("10.1.2.3", true, true),
            ("::ffff:10.1.2.3", true, true),
            ("fd00::5", true, true),
            ("10.2.0.1", false, false),
            ("127.0.0.1", false, false),
            ("8.8.8.8", false, true),
            ("8.8.8.8", true, false),
        ] {
            assert_eq!(rule.check("h", address(text), plain).is_ok(), good, "{text} {plain}");
        }
    }

    #[test]
    fn a_url_is_checked_however_its_address_is_written() {
        let strict = AddressRule::default();
        let local = AddressRule::new(["127.0.0.0/8".parse().unwrap()]);
        for (url, by_strict, by_local) in [
            ("https://crm.example.com/x", true, true),
            ("http://crm.example.com/x", false, true), // The name may lead to an allowed address.
            ("https://8.8.8.8/", true, true),
            ("http://8.8.8.8/", false, false),
            ("http://127.0.0.1:8080/", false, true),
            ("https://127.0.0.1/", false, true),
            ("https://0x7f.1/", false, true),
            ("https://2130706433/", false, true),
            ("https://0177.0.0.1/", false, true),
            ("https://127.1/", false, true),
            ("https://[::1]/", false, false),
            ("https://[::ffff:127.0.0.1]/", false, true),
            ("https://[::ffff:7f00:1]/", false, true),
            ("https://169.254.169.254/latest/meta-data", false, false),
            ("https://[fe80::1]/", false, false),
            ("https://user:secret@crm.example.com/", false, false),
            ("ftp://crm.example.com/", false, false),
            ("file:///etc/passwd", false, false),
        ] {
            let url = Url::parse(url).expect("a URL");
            assert_eq!(strict.check_url(&url).is_ok(), by_strict, "{url}");
            assert_eq!(local.check_url(&url).is_ok(), by_local, "{url}");
        }
    }

    #[test]
    fn an_error_does_not_repeat_credentials() {
        let url = Url::parse("https://me:secret@crm.example.com/").unwrap();
        let error = AddressRule::default().check_url(&url).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
