//! XML as a tree, read by a parser that shares nothing with the server's.

use std::collections::BTreeMap;
use std::fmt;

/// An element with everything in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dom {
    pub namespace: String,
    pub name: String,
    /// By the name as it is written.
    pub attributes: BTreeMap<String, String>,
    pub children: Vec<Dom>,
    /// All character data directly below.
    pub text: String,
}

impl Dom {
    /// The first element of `xml`, and what is left behind it.
    pub fn parse(xml: &str) -> Result<(Self, &str), String> {
        let mut parser = Parser {
            rest: xml.trim_start(),
        };
        let scope = BTreeMap::from([
            (String::new(), "jabber:client".to_owned()),
            (
                "stream".to_owned(),
                "http://etherx.jabber.org/streams".to_owned(),
            ),
        ]);
        let dom = parser
            .element(&scope)
            .map_err(|why| format!("{why} in {xml}"))?;
        Ok((dom, parser.rest))
    }

    /// All elements of `xml`, which has nothing else.
    pub fn parse_all(xml: &str) -> Result<Vec<Self>, String> {
        let mut rest = xml.trim();
        let mut all = Vec::new();
        while !rest.is_empty() {
            let (dom, behind) = Self::parse(rest)?;
            all.push(dom);
            rest = behind.trim();
        }
        Ok(all)
    }

    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace == namespace && self.name == name
    }
}

impl fmt::Display for Dom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} xmlns='{}'", self.name, self.namespace)?;
        for (name, value) in &self.attributes {
            write!(f, " {name}='{value}'")?;
        }
        write!(f, ">{}", self.text)?;
        for child in &self.children {
            write!(f, "{child}")?;
        }
        write!(f, "</{}>", self.name)
    }
}

type Scope = BTreeMap<String, String>;

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn element(&mut self, outer: &Scope) -> Result<Dom, String> {
        self.expect("<")?;
        let qname = self.until(&[' ', '\n', '\t', '>', '/']);
        let mut dom = Dom::default();
        let mut scope = outer.clone();
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with(['/', '>']) {
                break;
            }
            let name = self.until(&['=']).trim().to_owned();
            self.expect("=")?;
            let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'));
            let quote = quote.ok_or("an attribute without quotes")?;
            self.rest = &self.rest[1..];
            let value = decode(self.until(&[quote]))?;
            self.rest = self.rest.get(1..).ok_or("an open attribute")?;
            match name.strip_prefix("xmlns") {
                Some("") => drop(scope.insert(String::new(), value)),
                Some(prefix) => drop(scope.insert(prefix[1..].to_owned(), value)),
                None => drop(dom.attributes.insert(name, value)),
            }
        }
        let (prefix, local) = qname.split_once(':').unwrap_or(("", qname));
        dom.name = local.to_owned();
        dom.namespace = scope
            .get(prefix)
            .cloned()
            .ok_or(format!("prefix {prefix}"))?;
        if let Some(rest) = self.rest.strip_prefix("/>") {
            self.rest = rest;
            return Ok(dom);
        }
        self.expect(">")?;
        self.content(&mut dom, &scope)?;
        self.expect(&format!("</{qname}"))?;
        self.rest = self.rest.trim_start();
        self.expect(">")?;
        Ok(dom)
    }

    fn content(&mut self, dom: &mut Dom, scope: &Scope) -> Result<(), String> {
        loop {
            let text = self.until(&['<']);
            dom.text.push_str(&decode(text)?);
            if self.rest.starts_with("</") {
                return Ok(());
            }
            if let Some(rest) = self.rest.strip_prefix("<![CDATA[") {
                let end = rest.find("]]>").ok_or("an open CDATA section")?;
                dom.text.push_str(&rest[..end]);
                self.rest = &rest[end + 3..];
                continue;
            }
            if self.rest.is_empty() {
                return Err(format!("<{}> is not closed", dom.name));
            }
            dom.children.push(self.element(scope)?);
        }
    }

    fn until(&mut self, ends: &[char]) -> &'a str {
        let end = self.rest.find(ends).unwrap_or(self.rest.len());
        let (found, rest) = self.rest.split_at(end);
        self.rest = rest;
        found
    }

    fn expect(&mut self, what: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(what).ok_or(format!("no {what}"))?;
        Ok(())
    }
}

fn decode(raw: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut parts = raw.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (name, rest) = part.split_once(';').ok_or("an open reference")?;
        let number = |digits: &str, radix| {
            u32::from_str_radix(digits, radix)
                .ok()
                .and_then(char::from_u32)
        };
        let decoded = match name {
            "lt" => Some('<'),
            "gt" => Some('>'),
            "amp" => Some('&'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => match name.strip_prefix("#x") {
                Some(digits) => number(digits, 16),
                None => name.strip_prefix('#').and_then(|digits| number(digits, 10)),
            },
        };
        out.push(decoded.ok_or(format!("reference &{name};"))?);
        out.push_str(rest);
    }
    Ok(out)
}
