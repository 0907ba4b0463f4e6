//! An owned tree, for those who must read deeply, and to build answers with.

use std::borrow::Cow;
use std::mem;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::decode::{self, Reference, as_str};
use super::writer::Writer;
use crate::xmpp::ns;

/// An element with everything in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tree {
    namespace: Cow<'static, str>,
    local: Cow<'static, str>,
    attributes: Vec<Attribute>,
    nodes: Vec<Node>,
}

#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    /// Empty for attributes without prefix.
    namespace: Cow<'static, str>,
    local: Cow<'static, str>,
    value: Cow<'static, str>,
}

#[derive(Debug, PartialEq, Eq)]
enum Node {
    Element(Tree),
    Text(String),
}

/// The namespaces in force where octets stand.
#[derive(Debug, Default)]
pub(super) struct Context<'a> {
    pub default: &'a str,
    /// Outermost first.
    pub prefixes: Vec<(&'a str, &'a str)>,
}

impl Tree {
    /// Reads an element that was checked and written by this server: the default namespace is
    /// `jabber:client`.
    pub fn parse(element: &[u8]) -> Self {
        let prefixes = vec![("stream", ns::STREAMS)];
        Self::read(
            element,
            &Context {
                default: ns::CLIENT,
                prefixes,
            },
        )
    }

    /// The one element directly below; `None` when there is none or several.
    pub fn into_only_child(mut self) -> Option<Self> {
        let nodes = mem::take(&mut self.nodes);
        let mut children = nodes.into_iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        });
        let only = children.next()?;
        children.next().is_none().then_some(only)
    }

    /// An empty element.
    pub fn new(
        namespace: impl Into<Cow<'static, str>>,
        local: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            local: local.into(),
            attributes: Vec::new(),
            nodes: Vec::new(),
        }
    }

    /// The same with this attribute.
    #[must_use]
    pub fn with_attr(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.attributes.push(Attribute {
            namespace: Cow::Borrowed(""),
            local: name.into(),
            value: value.into(),
        });
        self
    }

    /// The same with this text behind what it has.
    #[must_use]
    pub fn with_text(mut self, text: impl Into<String>) -> Self {
        self.nodes.push(Node::Text(text.into()));
        self
    }

    /// The same with this element behind what it has.
    #[must_use]
    pub fn with_child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    /// Adds this element behind what it has.
    pub fn push(&mut self, child: Self) {
        self.nodes.push(Node::Element(child));
    }

    /// The name without prefix.
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The namespace; empty when there is none.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Whether this is `local` of the namespace `ns`.
    pub fn is(&self, ns: &str, local: &str) -> bool {
        self.local == local && self.namespace == ns
    }

    /// The value of the attribute without prefix that has this name.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attr_in("", name)
    }

    /// The value of the attribute of this namespace.
    pub fn attr_in(&self, ns: &str, local: &str) -> Option<&str> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|a| a.local == local && a.namespace == ns)
            .map(|a| &*a.value)
    }

    /// The element's own `xml:lang`.
    pub fn lang(&self) -> Option<&str> {
        self.attr_in(ns::XML, "lang")
    }

    /// The elements directly below.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Element(child) => Some(child),
            Node::Text(_) => None,
        })
    }

    /// The first element directly below that is `local` of the namespace `ns`.
    pub fn child(&self, ns: &str, local: &str) -> Option<&Self> {
        self.children().find(|child| child.is(ns, local))
    }

    /// The text directly below, in one piece.
    pub fn text(&self) -> String {
        let texts = self.nodes.iter().filter_map(|node| match node {
            Node::Text(text) => Some(text.as_str()),
            Node::Element(_) => None,
        });
        texts.collect()
    }

    /// Appends the element with all its declarations, so that it means the same wherever it is
    /// pasted.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut writer = Writer::new(out);
        let default = self.write_start(&mut writer, None);
        let mut open = vec![(self, self.nodes.iter(), default)];
        while let Some((tree, nodes, default)) = open.last_mut() {
            match nodes.next() {
                Some(Node::Text(text)) => {
                    writer.text(text);
                }
                Some(Node::Element(child)) => {
                    let default = child.write_start(&mut writer, *default);
                    open.push((child, child.nodes.iter(), default));
                }
                None => {
                    writer.end(&tree.qname());
                    open.pop();
                }
            }
        }
    }

    /// The name as it is written. Only the prefix `xml` may stand for its namespace.
    fn qname(&self) -> Cow<'_, str> {
        match &*self.namespace {
            ns::XML => Cow::Owned(format!("xml:{}", self.local)),
            _ => Cow::Borrowed(&*self.local),
        }
    }

    /// Writes the start tag where the default namespace is `outer`; returns the one inside.
    fn write_start<'t>(
        &'t self,
        writer: &mut Writer<'_>,
        outer: Option<&'t str>,
    ) -> Option<&'t str> {
        writer.open(&self.qname());
        let mut inside = outer;
        if self.namespace != ns::XML && outer != Some(&*self.namespace) {
            writer.attr("xmlns", &self.namespace);
            inside = Some(&*self.namespace);
        }
        for (index, attribute) in self.attributes.iter().enumerate() {
            match &*attribute.namespace {
                "" => writer.attr(&attribute.local, &attribute.value),
                ns::XML => writer.attr(&format!("xml:{}", attribute.local), &attribute.value),
                namespace => writer
                    .attr(&format!("xmlns:a{index}"), namespace)
                    .attr(&format!("a{index}:{}", attribute.local), &attribute.value),
            };
        }
        inside
    }

    /// Reads one element that the scanner has accepted. What it has not accepted gives an
    /// incomplete tree, never a panic.
    pub(super) fn read(octets: &[u8], context: &Context<'_>) -> Self {
        let mut reader = Reader::from_str(as_str(octets));
        reader.config_mut().check_end_names = false;
        let mut open: Vec<Open> = Vec::new();
        loop {
            let finished = match reader.read_event() {
                Ok(Event::Start(tag)) => {
                    let opened = Open::new(&tag, open.last(), context, &open);
                    open.push(opened);
                    None
                }
                Ok(Event::Empty(tag)) => Some(Open::new(&tag, open.last(), context, &open).tree),
                Ok(Event::End(_)) => open.pop().map(|closed| closed.tree),
                Ok(Event::Eof) | Err(_) => {
                    return open
                        .into_iter()
                        .next()
                        .map_or_else(Self::default, |o| o.tree);
                }
                Ok(event) => {
                    if let Some(parent) = open.last_mut() {
                        parent.tree.take_text(&event);
                    }
                    None
                }
            };
            match (finished, open.last_mut()) {
                (Some(tree), Some(parent)) => parent.tree.push(tree),
                (Some(tree), None) => return tree,
                (None, _) => {}
            }
        }
    }

    fn take_text(&mut self, event: &Event<'_>) {
        if !matches!(self.nodes.last(), Some(Node::Text(_))) {
            self.nodes.push(Node::Text(String::new()));
        }
        let Some(Node::Text(text)) = self.nodes.last_mut() else {
            return;
        };
        match event {
            Event::Text(raw) => decode::text(raw.as_bytes(), text),
            Event::CData(raw) => decode::cdata(raw.as_bytes(), text),
            Event::GeneralRef(name) => {
                let whole = format!("&{};", &**name);
                if let Reference::Char(c, _) = decode::reference(whole.as_bytes()) {
                    text.push(c);
                }
            }
            _ => {}
        }
    }
}

/// The derived drop would recurse, and a deep tree would overflow the stack.
impl Drop for Tree {
    fn drop(&mut self) {
        let mut doomed = mem::take(&mut self.nodes);
        while let Some(node) = doomed.pop() {
            if let Node::Element(mut tree) = node {
                doomed.append(&mut tree.nodes);
            }
        }
    }
}

/// An element that is being read.
struct Open {
    tree: Tree,
    default: String,
    prefixes: Vec<(String, String)>,
}

impl Open {
    fn new(
        tag: &BytesStart<'_>,
        parent: Option<&Self>,
        context: &Context<'_>,
        outer: &[Self],
    ) -> Self {
        let mut this = Self {
            tree: Tree::default(),
            default: parent
                .map_or(context.default, |parent| &parent.default)
                .to_owned(),
            prefixes: Vec::new(),
        };
        let mut plain = Vec::new();
        for attribute in tag.attributes().with_checks(false).flatten() {
            let value = decode::attribute(&attribute.value).into_owned();
            match attribute.key.into_inner() {
                "xmlns" => this.default = value,
                name => match name.strip_prefix("xmlns:") {
                    Some(prefix) => this.prefixes.push((prefix.to_owned(), value)),
                    None => plain.push((name.to_owned(), value)),
                },
            }
        }
        let resolve = |prefix: &str| resolve(prefix, &this.prefixes, outer, context).to_owned();
        let (namespace, local) = match tag.name().into_inner().split_once(':') {
            Some((prefix, local)) => (resolve(prefix), local.to_owned()),
            None => (this.default.clone(), tag.name().into_inner().to_owned()),
        };
        let attributes = plain.into_iter().map(|(name, value)| {
            let (namespace, local) = match name.split_once(':') {
                Some((prefix, local)) => (resolve(prefix), local.to_owned()),
                None => (String::new(), name),
            };
            Attribute {
                namespace: namespace.into(),
                local: local.into(),
                value: value.into(),
            }
        });
        this.tree.attributes = attributes.collect();
        this.tree.namespace = namespace.into();
        this.tree.local = local.into();
        this
    }
}

/// The innermost binding of `prefix`; empty when there is none, which the scanner excludes.
fn resolve<'a>(
    prefix: &str,
    own: &'a [(String, String)],
    outer: &'a [Open],
    context: &Context<'a>,
) -> &'a str {
    if prefix == "xml" {
        return ns::XML;
    }
    let outer = outer.iter().rev().flat_map(|open| &open.prefixes);
    for (bound, namespace) in own.iter().chain(outer) {
        if bound == prefix {
            return namespace;
        }
    }
    let mut known = context.prefixes.iter().rev();
    known
        .find(|(bound, _)| *bound == prefix)
        .map_or("", |(_, namespace)| namespace)
}
