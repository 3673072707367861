//! Who may say on whose behalf it connects (docs/protocol.md, 7): addresses of load balancers.

use std::net::IpAddr;

/// Networks, as the listener's URL gives them.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Trusted(Box<[Network]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// IPv4 as IPv4-mapped IPv6.
    address: u128,
    /// Bits of it that count.
    bits: u32,
}

impl Trusted {
    /// Addresses and networks (`10.0.0.0/8`, `fd00::/8`), separated by commas.
    pub fn parse(text: &str) -> Option<Trusted> {
        let networks = text.split(',').map(Network::parse);
        Some(Trusted(networks.collect::<Option<_>>()?))
    }

    pub fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.has(address))
    }
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (most, shift) = if address.is_ipv4() {
            (32, 96)
        } else {
            (128, 0)
        };
        let bits = bits.unwrap_or(most);
        (bits <= most).then(|| Network {
            address: mapped(address),
            bits: bits + shift,
        })
    }

    fn has(self, address: IpAddr) -> bool {
        self.bits == 0 || (self.address ^ mapped(address)) >> (128 - self.bits) == 0
    }
}

fn mapped(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
    .to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_both_families() {
        let trusted = Trusted::parse("10.0.0.0/8,192.0.2.7,fd00::/8").unwrap();
        for (address, expected) in [
            ("10.255.1.2", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("fd12::1", true),
            ("fe80::1", false),
            // A socket of IPv6 that serves IPv4, too.
            ("::ffff:10.1.1.1", true),
        ] {
            assert_eq!(trusted.has(address.parse().unwrap()), expected, "{address}");
        }
        assert!(Trusted::parse("0.0.0.0/0")
            .unwrap()
            .has("1.2.3.4".parse().unwrap()));
        assert!(!Trusted::default().has("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for wrong in [
            "",
            "10.0.0.0/33",
            "::1/129",
            "localhost",
            "10.0.0.0/8,",
            "1.2.3.4/x",
        ] {
            assert_eq!(Trusted::parse(wrong), None, "{wrong}");
        }
    }
}
