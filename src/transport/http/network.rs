//! Networks by address and prefix, for the list of proxies whose word counts.

use std::net::IpAddr;

/// A list of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    listed: Box<[Network]>,
}

/// One network; one address is the smallest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Why an entry of the list is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// What stands before the slash is no address, or one of IPv4 in the clothes of IPv6.
    Address,
    /// What stands behind it is no number of bits that such an address has.
    Prefix,
    /// The address has bits behind the prefix: one of the two is a mistake.
    HostBits,
}

impl Networks {
    /// The networks of a configuration: `10.0.0.0/8`, `2001:db8::/32`, `127.0.0.1`.
    ///
    /// # Errors
    /// The entry that is no network, and why.
    pub fn new<'a>(
        listed: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, (&'a str, NetworkError)> {
        let listed: Result<_, _> = listed
            .into_iter()
            .map(|entry| Network::parse(entry).map_err(|error| (entry, error)))
            .collect();
        Ok(Self { listed: listed? })
    }

    /// Whether an address is in one of them. An IPv4 address is the same when a socket for IPv6
    /// shows it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.listed.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn parse(entry: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match entry.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (entry, None),
        };
        let first: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        if first.to_canonical() != first {
            return Err(NetworkError::Address);
        }
        let bits = bits(first);
        let prefix = match prefix {
            None => bits,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().map_err(|_| NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        if prefix > bits {
            return Err(NetworkError::Prefix);
        }
        match number(first) & !mask(prefix, bits) {
            0 => Ok(Self { first, prefix }),
            _ => Err(NetworkError::HostBits),
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        let differing = number(self.first) ^ number(address);
        let mask = mask(self.prefix, bits(self.first));
        self.first.is_ipv4() == address.is_ipv4() && differing & mask == 0
    }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first `prefix` of so many bits, and all above them, which are the same in any case.
fn mask(prefix: u8, bits: u8) -> u128 {
    u128::MAX
        .checked_shl(bits.saturating_sub(prefix).into())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_their_networks() {
        let listed = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1"];
        let networks = Networks::new(listed).unwrap();
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("::ffff:10.1.2.3", true),
            ("::10.1.2.3", false),
            ("2001:db8::1", true),
            ("2001:db8:7fff:ffff::", true),
            ("2001:db8:8000::", false),
            ("::1", true),
            ("::2", false),
            ("0.0.0.1", false),
        ] {
            assert_eq!(
                networks.contains(address.parse().unwrap()),
                expected,
                "{address}"
            );
        }
        let all = Networks::new(["0.0.0.0/0"]).unwrap();
        assert!(all.contains("203.0.113.1".parse().unwrap()));
        assert!(!all.contains("2001:db8::1".parse().unwrap()));
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (entry, error) in [
            ("", NetworkError::Address),
            ("localhost", NetworkError::Address),
            ("10.0.0/8", NetworkError::Address),
            ("::ffff:10.0.0.0/104", NetworkError::Address),
            ("010.0.0.0/8", NetworkError::Address),
            ("10.0.0.0/", NetworkError::Prefix),
            ("10.0.0.0/33", NetworkError::Prefix),
            ("10.0.0.0/+8", NetworkError::Prefix),
            ("10.0.0.0/256", NetworkError::Prefix),
            ("::/129", NetworkError::Prefix),
            ("10.0.0.1/8", NetworkError::HostBits),
            ("2001:db8::1/64", NetworkError::HostBits),
        ] {
            assert_eq!(Networks::new([entry]), Err((entry, error)));
        }
    }
}
