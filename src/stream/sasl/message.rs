//! The grammar of SCRAM's messages, exactly (RFC 5802 section 7).

use super::Condition;

/// What a client says of channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag<'a> {
    /// `n`: the client has none.
    None,
    /// `y`: the client has it and believes that the server has not.
    Unoffered,
    /// `p`: the client binds to this type of channel binding.
    Required(&'a str),
}

/// `client-first-message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst<'a> {
    /// `gs2-header`, as sent.
    pub gs2_header: &'a str,
    pub flag: Flag<'a>,
    /// `a=`, unescaped.
    pub authzid: Option<String>,
    /// `client-first-message-bare`, as sent.
    pub bare: &'a str,
    /// `n=`, unescaped.
    pub name: String,
    /// `r=`
    pub nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// Takes a message apart.
    ///
    /// # Errors
    /// [`Condition::MalformedRequest`] for everything that the grammar does not produce, and for
    /// the reserved `m=`, wherever it stands.
    pub fn parse(message: &'a [u8]) -> Result<Self, Condition> {
        let message = text(message)?;
        let (flag, rest) = message.split_once(',').ok_or(MALFORMED)?;
        let (authzid, bare) = rest.split_once(',').ok_or(MALFORMED)?;
        let gs2_octets = message.len() - bare.len();
        let mut fields = bare.split(',');
        let name = value(fields.next(), "n=")?;
        let nonce = value(fields.next(), "r=")?;
        check_nonce(nonce)?;
        fields.try_for_each(check_extension)?;
        Ok(Self {
            gs2_header: message.get(..gs2_octets).ok_or(MALFORMED)?,
            flag: Flag::parse(flag)?,
            authzid: match authzid {
                "" => None,
                given => Some(unescape(value(Some(given), "a=")?)?),
            },
            bare,
            name: unescape(name)?,
            nonce,
        })
    }
}

impl<'a> Flag<'a> {
    fn parse(flag: &'a str) -> Result<Self, Condition> {
        match flag {
            "n" => Ok(Self::None),
            "y" => Ok(Self::Unoffered),
            _ => {
                let name = value(Some(flag), "p=")?;
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-';
                match name.bytes().all(allowed) {
                    true => Ok(Self::Required(name)),
                    false => Err(MALFORMED),
                }
            }
        }
    }
}

/// `client-final-message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFinal<'a> {
    /// `client-final-message-without-proof`, as sent.
    pub without_proof: &'a str,
    /// `c=`, still in base64.
    pub binding: &'a str,
    /// `r=`
    pub nonce: &'a str,
    /// `p=`, still in base64.
    pub proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    /// Takes a message apart.
    ///
    /// # Errors
    /// [`Condition::MalformedRequest`] for everything that the grammar does not produce.
    pub fn parse(message: &'a [u8]) -> Result<Self, Condition> {
        let (without_proof, proof) = text(message)?.rsplit_once(',').ok_or(MALFORMED)?;
        let mut fields = without_proof.split(',');
        let binding = value(fields.next(), "c=")?;
        let nonce = value(fields.next(), "r=")?;
        check_nonce(nonce)?;
        fields.try_for_each(check_extension)?;
        Ok(Self {
            without_proof,
            binding,
            nonce,
            proof: value(Some(proof), "p=")?,
        })
    }
}

/// UTF-8 without NUL: no production has one.
fn text(message: &[u8]) -> Result<&str, Condition> {
    match str::from_utf8(message) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(MALFORMED),
    }
}

/// What follows `name` in a field; never empty.
fn value<'a>(field: Option<&'a str>, name: &str) -> Result<&'a str, Condition> {
    match field.and_then(|field| field.strip_prefix(name)) {
        Some(value) if !value.is_empty() => Ok(value),
        _ => Err(MALFORMED),
    }
}

/// `printable`: visible ASCII but the comma, at which fields were split.
fn check_nonce(nonce: &str) -> Result<(), Condition> {
    match nonce.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(MALFORMED),
    }
}

/// `attr-val`. A name that the specification gives a meaning is no extension, least of all `m`,
/// which would be one that must be understood.
fn check_extension(field: &str) -> Result<(), Condition> {
    let mut octets = field.bytes();
    let name = octets
        .next()
        .filter(u8::is_ascii_alphabetic)
        .ok_or(MALFORMED)?;
    let equals = octets.next() == Some(b'=');
    let reserved = RESERVED.contains(&name);
    match equals && !reserved && octets.next().is_some() {
        true => Ok(()),
        false => Err(MALFORMED),
    }
}

/// `saslname`: `=2C` is a comma, `=3D` an equals sign, and there is no other escape.
fn unescape(name: &str) -> Result<String, Condition> {
    let mut plain = String::with_capacity(name.len());
    let mut parts = name.split('=');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (c, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            _ => return Err(MALFORMED),
        };
        plain.push(c);
        plain.push_str(rest);
    }
    Ok(plain)
}

const MALFORMED: Condition = Condition::MalformedRequest;
/// Attribute names with a meaning of their own (RFC 5802 section 5.1).
const RESERVED: &[u8] = b"anmrcsipve";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_first_message_is_taken_apart() {
        let first = ClientFirst::parse(b"p=tls-exporter,a=x=2Cy,n=us=3Der=2C,r=abc,x=1=2,Y=z");
        assert_eq!(
            first.unwrap(),
            ClientFirst {
                gs2_header: "p=tls-exporter,a=x=2Cy,",
                flag: Flag::Required("tls-exporter"),
                authzid: Some("x,y".into()),
                bare: "n=us=3Der=2C,r=abc,x=1=2,Y=z",
                name: "us=er,".into(),
                nonce: "abc",
            }
        );
    }

    #[test]
    fn what_the_grammar_does_not_produce_is_refused() {
        for message in [
            "",
            "n",
            "n,",
            "n,,",
            "n,,n=user",
            "n,,n=user,",
            "n,,n=user,r=",
            "n,,n=,r=abc",
            "n,,r=abc,n=user",
            "n,,n=user,r=a\u{e9}c",
            "n,,n=user,r=a c",
            "n,,n=us=2cer,r=abc",
            "n,,n=us=er,r=abc",
            "n,,n=user=,r=abc",
            "n,,n=us\0er,r=abc",
            "n,,m=x,n=user,r=abc",
            "n,,n=user,r=abc,m=x",
            "n,,n=user,r=abc,",
            "n,,n=user,r=abc,x",
            "n,,n=user,r=abc,x=",
            "n,,n=user,r=abc,1=x",
            "n,,n=user,r=abc,xx=y",
            "n,,n=user,r=abc,n=other",
            "n,,N=user,r=abc",
            "n,a=,n=user,r=abc",
            "n,b=x,n=user,r=abc",
            "n,x,n=user,r=abc",
            "z,,n=user,r=abc",
            "nn,,n=user,r=abc",
            "n=,,n=user,r=abc",
            "p,,n=user,r=abc",
            "p=,,n=user,r=abc",
            "p=tls_exporter,,n=user,r=abc",
            " n,,n=user,r=abc",
        ] {
            assert_eq!(
                ClientFirst::parse(message.as_bytes()),
                Err(MALFORMED),
                "{message:?}"
            );
        }
        assert_eq!(ClientFirst::parse(b"n,,n=\xff,r=abc"), Err(MALFORMED));
    }

    #[test]
    fn a_final_message_is_taken_apart() {
        let last = ClientFinal::parse(b"c=biws,r=abcdef,x=y,p=AAA=").unwrap();
        assert_eq!(last.without_proof, "c=biws,r=abcdef,x=y");
        assert_eq!(
            (last.binding, last.nonce, last.proof),
            ("biws", "abcdef", "AAA=")
        );
        for message in [
            "",
            "c=biws",
            "c=biws,p=AAAA",
            "c=biws,r=abc",
            "c=,r=abc,p=AAAA",
            "r=abc,c=biws,p=AAAA",
            "c=biws,r=,p=AAAA",
            "c=biws,r=abc,p=",
            "c=biws,r=abc,p=AAAA,",
            "c=biws,r=abc,p=AAAA,x=y",
            "c=biws,r=abc,p=AAAA,p=BBBB",
            "c=biws,r=abc,m=x,p=AAAA",
            "c=biws,r=abc,p=AA\0A",
        ] {
            assert_eq!(
                ClientFinal::parse(message.as_bytes()),
                Err(MALFORMED),
                "{message:?}"
            );
        }
    }

    proptest! {
        /// What the grammar produces is accepted; whatever is accepted is the sum of its parts.
        #[test]
        fn an_accepted_message_is_the_sum_of_its_parts(
            flag in "n|y|p=[a-z.-]{1,4}",
            authzid in "(a=[a-c]{1,3}(=2C|=3D)?)?",
            name in "([a-c\u{e9}]|=2C|=3D){1,4}",
            nonce in "[!-+.-~]{1,4}",
            extension in "(,[x-z]=[a-z=]{1,2})?",
            lost in any::<proptest::sample::Index>(),
        ) {
            let mut message = format!("{flag},{authzid},n={name},r={nonce}{extension}");
            prop_assert!(ClientFirst::parse(message.as_bytes()).is_ok(), "{message}");

            let at = lost.index(message.len());
            if message.is_char_boundary(at) {
                message.remove(at);
            }
            if let Ok(first) = ClientFirst::parse(message.as_bytes()) {
                prop_assert_eq!([first.gs2_header, first.bare].concat(), &*message);
                let escaped = first.name.replace('=', "=3D").replace(',', "=2C");
                let start = format!("n={escaped},r={}", first.nonce);
                prop_assert!(first.bare.starts_with(&start), "{message}");
            }
        }

        #[test]
        fn no_octets_panic(message in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = ClientFirst::parse(&message);
            let _ = ClientFinal::parse(&message);
        }
    }
}
