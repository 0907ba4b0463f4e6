//! The effective configuration: defaults, file, environment and command line, in this order.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::options::{self, ROWS, Row};
use super::value::{Kind, Value};
use crate::base::limits::Limits;

/// Everything that can be set. Addresses and JIDs are checked texts.
#[derive(Clone, Debug)]
pub struct Config {
    pub domains: Vec<String>,
    pub admins: Vec<String>,
    pub data_dir: PathBuf,
    pub secret: Option<String>,
    /// `None`: the server decides.
    pub private_descriptors: Option<bool>,
    pub shutdown_timeout: Duration,
    pub listen_c2s: Vec<String>,
    pub listen_c2s_tls: Vec<String>,
    pub listen_http: Vec<String>,
    pub listen_https: Vec<String>,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub require_tls: bool,
    pub http_origins: Vec<String>,
    pub http_proxies: Vec<String>,
    pub http_proxy_header: String,
    pub http_proxy_protocol: bool,
    pub http_topics: Vec<String>,
    pub http_public_url: Option<String>,
    /// Zero: the server decides.
    pub shards: u16,
    pub limits: Limits,
    pub log_level: String,
    pub log_format: String,
    pub log_target: String,
    pub contacts: Contacts,
}

/// XEP-0157.
#[derive(Clone, Debug, Default)]
pub struct Contacts {
    pub abuse: Vec<String>,
    pub admin: Vec<String>,
    pub feedback: Vec<String>,
    pub sales: Vec<String>,
    pub security: Vec<String>,
    pub status: Vec<String>,
    pub support: Vec<String>,
}

impl Contacts {
    /// The fields of the form that have addresses, by name.
    pub fn fields(&self) -> Vec<(String, Vec<String>)> {
        let fields = [
            ("abuse", &self.abuse),
            ("admin", &self.admin),
            ("feedback", &self.feedback),
            ("sales", &self.sales),
            ("security", &self.security),
            ("status", &self.status),
            ("support", &self.support),
        ];
        let given = fields.into_iter().filter(|(_, uris)| !uris.is_empty());
        given
            .map(|(name, uris)| (format!("{name}-addresses"), uris.clone()))
            .collect()
    }
}

impl Config {
    /// Every address that is listened on.
    pub fn addresses(&self) -> impl Iterator<Item = &String> {
        let lists = [
            &self.listen_c2s,
            &self.listen_c2s_tls,
            &self.listen_http,
            &self.listen_https,
        ];
        lists.into_iter().flatten()
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            admins: Vec::new(),
            data_dir: "encke-data".into(),
            secret: None,
            private_descriptors: None,
            shutdown_timeout: Duration::from_secs(10),
            listen_c2s: vec!["0.0.0.0:5222".into(), "[::]:5222".into()],
            listen_c2s_tls: vec!["0.0.0.0:5223".into(), "[::]:5223".into()],
            // Who has no use for browsers need not watch over two more ports.
            listen_http: Vec::new(),
            listen_https: Vec::new(),
            certificate: None,
            key: None,
            require_tls: true,
            http_origins: Vec::new(),
            http_proxies: Vec::new(),
            http_topics: Vec::new(),
            http_proxy_header: "x-forwarded-for".into(),
            http_proxy_protocol: false,
            http_public_url: None,
            shards: 0,
            limits: Limits::default(),
            log_level: "info".into(),
            log_format: "text".into(),
            log_target: "stderr".into(),
            contacts: Contacts::default(),
        }
    }
}

/// What the command line says about the configuration.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub file: Option<PathBuf>,
    pub data_dir: Option<PathBuf>,
}

/// Whether this is a real server or one to try out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Without a configuration: loopback, `localhost`, demo accounts.
    Standalone,
    Configured,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    Standalone,
    File { line: usize },
    Variable(String),
    CommandLine,
}

/// A configuration and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    pub mode: Mode,
    pub file: Option<PathBuf>,
    /// By the index of the row.
    sources: Vec<Source>,
}

/// One thing that is wrong, as one line: where, what, how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: String,
    pub text: String,
}

/// The file that is taken when none is named.
pub const FILE: &str = "encke.toml";

/// Reads the configuration.
///
/// Without a file and without a domain in `variables` it is the standalone mode.
///
/// # Errors
/// Everything that is wrong, in the order found.
pub fn load(
    wanted: &Wanted,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Vec<Fault>> {
    let file = wanted.file.clone().or_else(|| {
        let usual = PathBuf::from(FILE);
        usual.exists().then_some(usual)
    });
    let mut reader = Reader::new(file.clone());
    if let Some(path) = &file {
        reader.read_file(path);
    }
    reader.read_variables(variables);
    if let Some(dir) = &wanted.data_dir {
        let value = Value::Text(dir.display().to_string());
        reader.put(index("data_dir"), value, Source::CommandLine);
    }
    reader.finish()
}

struct Reader {
    loaded: Loaded,
    faults: Vec<Fault>,
}

impl Reader {
    fn new(file: Option<PathBuf>) -> Self {
        let loaded = Loaded {
            config: Config::default(),
            mode: Mode::Configured,
            file,
            sources: vec![Source::Default; ROWS.len()],
        };
        let faults = Vec::new();
        Self { loaded, faults }
    }

    fn read_file(&mut self, path: &Path) {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => return self.fault(path.display().to_string(), format!("not read: {e}")),
        };
        let file = File { path, text: &text };
        match DeTable::parse(&text) {
            Ok(table) => self.read_table(&file, "", table.get_ref()),
            Err(e) => {
                let start = e.span().map_or(0, |span| span.start);
                let reason = e.message().lines().collect::<Vec<_>>().join(", ");
                self.fault(file.place(start), format!("no TOML: {reason}"));
            }
        }
    }

    fn read_table(&mut self, file: &File<'_>, name: &str, table: &DeTable<'_>) {
        // The parser sorts keys; people want faults in the order of their file.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let full = match name {
                "" => key.get_ref().to_string(),
                table => format!("{table}.{}", key.get_ref()),
            };
            self.read_entry(file, &full, key.span().start, value);
        }
    }

    fn read_entry(
        &mut self,
        file: &File<'_>,
        name: &str,
        start: usize,
        value: &Spanned<DeValue<'_>>,
    ) {
        if let Some(index) = ROWS.iter().position(|row| row.name == name) {
            let row = &ROWS[index];
            return match row.kind.read_toml(value.get_ref()) {
                Ok(value) => {
                    let value = file.resolve(row.kind, value);
                    let line = file.line(start);
                    self.put(index, value, Source::File { line });
                }
                Err(e) => self.fault(file.place(start), refusal(row, &e)),
            };
        }
        match value.get_ref() {
            DeValue::Table(table) if is_table(name) => self.read_table(file, name, table),
            _ if is_table(name) => {
                self.fault(
                    file.place(start),
                    format!("{name} is a table; write [{name}]"),
                );
            }
            _ => self.fault(file.place(start), unknown(name)),
        }
    }

    fn read_variables(&mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) {
        let mut ours: Vec<_> = variables
            .into_iter()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with(options::PREFIX))
            .collect();
        ours.sort();
        for (variable, value) in ours {
            let Ok(value) = value.into_string() else {
                self.fault(variable, "is no UTF-8".into());
                continue;
            };
            self.read_variable(variable, value);
        }
    }

    fn read_variable(&mut self, variable: String, value: String) {
        let name = variable[options::PREFIX.len()..]
            .to_lowercase()
            .replace("__", ".");
        let named = |name: &str| ROWS.iter().position(|row| row.name == name);
        let from_file = name.strip_suffix("_file").and_then(named);
        let (index, value) = match (named(&name), from_file) {
            (Some(index), _) => (index, Ok(value)),
            (None, Some(index)) => (index, std::fs::read_to_string(&value)),
            (None, None) => return self.fault(variable, unknown(&name)),
        };
        let row = &ROWS[index];
        let read = match value {
            Ok(value) => row.kind.read_word(&value),
            Err(e) => return self.fault(variable, format!("its file was not read: {e}")),
        };
        match read {
            Ok(value) => self.put(index, value, Source::Variable(variable)),
            Err(e) => self.fault(variable, refusal(row, &e)),
        }
    }

    fn put(&mut self, index: usize, value: Value, source: Source) {
        let Loaded {
            config, sources, ..
        } = &mut self.loaded;
        ROWS[index].write(config, value);
        // Two spellings of one setting: the later source wins, one source must not use both.
        if let Some(twin) = twin(index) {
            let both = matches!(
                (&sources[twin], &source),
                (Source::File { .. }, Source::File { .. })
            ) || matches!(
                (&sources[twin], &source),
                (Source::Variable(_), Source::Variable(_))
            );
            sources[twin] = source.clone();
            if both {
                let place = self.loaded.place(&source);
                self.fault(place, "give either domain or domains, not both".into());
            }
        }
        self.loaded.sources[index] = source;
    }

    fn finish(mut self) -> Result<Loaded, Vec<Fault>> {
        if self.loaded.file.is_none() && self.loaded.config.domains.is_empty() {
            self.stand_alone();
        }
        if self.faults.is_empty() {
            self.check_whole();
        }
        if self.faults.is_empty() {
            return Ok(self.loaded);
        }
        Err(self.faults)
    }

    /// What differs from the defaults when there is no configuration.
    fn stand_alone(&mut self) {
        self.loaded.mode = Mode::Standalone;
        let loopback = |port: u16| {
            let addresses = [format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
            Value::Texts(addresses.to_vec())
        };
        let presets = [
            ("domain", Value::Text("localhost".into())),
            ("listen.c2s", loopback(5222)),
            ("listen.c2s_tls", loopback(5223)),
            ("listen.http", loopback(5280)),
            ("listen.https", loopback(5443)),
            // The newcomer reads the banner, not the log.
            ("log.level", Value::Text("warn".into())),
        ];
        for (name, value) in presets {
            let index = index(name);
            if self.loaded.sources[index] == Source::Default {
                self.put(index, value, Source::Standalone);
            }
        }
    }

    /// What only shows when all values are known.
    fn check_whole(&mut self) {
        let config = &self.loaded.config;
        let mut found: Vec<(&str, String)> = Vec::new();
        if config.domains.is_empty() {
            let text = "domain is missing; add domain = \"example.org\" at the top".into();
            found.push(("domain", text));
        }
        if config.certificate.is_some() != config.key.is_some() {
            let (one, other) = match config.key {
                None => ("tls.certificate", "tls.key"),
                Some(_) => ("tls.key", "tls.certificate"),
            };
            found.push((
                one,
                format!("{one} is set without {other}; give both or none"),
            ));
        }
        if config.addresses().next().is_none() {
            let text = "there is no address to listen on; give listen.c2s or listen.c2s_tls";
            found.push(("listen.c2s", text.into()));
        }
        if config.http_proxy_protocol && config.http_proxies.is_empty() {
            let name = "http.proxy_protocol";
            let text = format!("{name} is set without http.proxies; say who the proxies are");
            found.push((name, text));
        }
        let limits = &config.limits;
        if limits.preauth_stanza_octets_max > limits.stanza_octets_max {
            let name = "limits.preauth_stanza_octets_max";
            found.push((
                name,
                format!("{name} is greater than limits.stanza_octets_max"),
            ));
        }
        if limits.queue_octets_max < limits.stanza_octets_max {
            let name = "limits.queue_octets_max";
            found.push((
                name,
                format!("{name} is smaller than limits.stanza_octets_max"),
            ));
        }
        if self.loaded.mode == Mode::Standalone {
            found.extend(not_loopback(config));
        }
        for (name, text) in found {
            let place = self.loaded.place(&self.loaded.sources[index(name)]);
            self.fault(place, text);
        }
    }

    fn fault(&mut self, place: String, text: String) {
        self.faults.push(Fault { place, text });
    }
}

impl Loaded {
    /// Where the value of a row came from.
    pub fn source(&self, row: &Row) -> &Source {
        &self.sources[index(row.name)]
    }

    /// The data directory, where the command line has named it.
    pub fn data_dir_of_command_line(&self) -> Option<PathBuf> {
        let named = self.sources[index("data_dir")] == Source::CommandLine;
        named.then(|| self.config.data_dir.clone())
    }

    /// Where to look for a value, as messages begin with it.
    fn place(&self, source: &Source) -> String {
        let file = || {
            let shown = self.file.as_ref().map(|path| path.display().to_string());
            shown.unwrap_or_else(|| "configuration".into())
        };
        match source {
            Source::Default | Source::Standalone => file(),
            Source::File { line } => format!("{}:{line}", file()),
            Source::Variable(name) => name.clone(),
            Source::CommandLine => "command line".into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Standalone => f.write_str("standalone mode"),
            Self::File { line } => write!(f, "line {line}"),
            Self::Variable(name) => f.write_str(name),
            Self::CommandLine => f.write_str("command line"),
        }
    }
}

struct File<'a> {
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self
            .text
            .bytes()
            .take(offset)
            .filter(|&octet| octet == b'\n')
            .count()
    }

    fn place(&self, offset: usize) -> String {
        format!("{}:{}", self.path.display(), self.line(offset))
    }

    /// Relative paths start where the file is, so that the working directory does not matter.
    fn resolve(&self, kind: Kind, value: Value) -> Value {
        let is_path = match (kind, &value) {
            (Kind::Path, _) => true,
            (Kind::Target, Value::Text(text)) => text != "stderr" && text != "stdout",
            _ => false,
        };
        match (value, self.path.parent()) {
            (Value::Text(text), Some(dir)) if is_path => {
                Value::Text(dir.join(text).display().to_string())
            }
            (value, _) => value,
        }
    }
}

/// The passwords of the demo accounts are known to everybody.
fn not_loopback(config: &Config) -> Option<(&'static str, String)> {
    let tables = [
        ("listen.c2s", &config.listen_c2s),
        ("listen.c2s_tls", &config.listen_c2s_tls),
        ("listen.http", &config.listen_http),
        ("listen.https", &config.listen_https),
    ];
    let lists = tables
        .into_iter()
        .flat_map(|(name, list)| list.iter().map(move |a| (name, a)));
    let addresses = lists.filter_map(|(name, text)| Some((name, text.parse::<SocketAddr>().ok()?)));
    let mut foreign = addresses.filter(|(_, address)| !address.ip().is_loopback());
    let (name, address) = foreign.next()?;
    let text = format!("{name}: standalone mode is for loopback, not {address}; set a domain");
    Some((name, text))
}

fn index(name: &str) -> usize {
    ROWS.iter().position(|row| row.name == name).unwrap_or(0)
}

fn twin(of: usize) -> Option<usize> {
    match ROWS[of].name {
        "domain" => Some(index("domains")),
        "domains" => Some(index("domain")),
        _ => None,
    }
}

fn is_table(name: &str) -> bool {
    ROWS.iter().any(|row| row.place().0 == name)
}

fn refusal(row: &Row, reason: &str) -> String {
    match reason.starts_with('"') {
        true => format!("{}: {reason}", row.name),
        false => format!("{} {reason}", row.name),
    }
}

/// The message for a name that is no option.
fn unknown(name: &str) -> String {
    let key = name.rsplit('.').next().unwrap_or(name);
    if let Some(row) = ROWS
        .iter()
        .find(|row| row.place().1 == key && !row.place().0.is_empty())
    {
        let table = row.place().0;
        return format!("{name} is unknown; {key} belongs into the table [{table}]");
    }
    let tables = ROWS
        .iter()
        .map(|row| row.place().0)
        .filter(|table| !table.is_empty());
    let names = ROWS.iter().map(|row| row.name).chain(tables);
    let similar = names
        .map(|known| (strsim::normalized_damerau_levenshtein(name, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN);
    match similar {
        Some((_, known)) => format!("{name} is unknown; did you mean {known}?"),
        None => format!("{name} is unknown; `encke config reference` lists all options"),
    }
}

/// Below it a guess would be worse than none.
const LIKENESS_MIN: f64 = 0.5;

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Vec<String>> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("encke.toml");
        std::fs::write(&path, text).expect("written");
        let wanted = Wanted {
            file: Some(path),
            data_dir: None,
        };
        let variables = variables
            .iter()
            .map(|(n, v)| (OsString::from(n), OsString::from(v)));
        let prefix = format!("{}/", dir.path().display());
        load(&wanted, variables).map_err(|faults| {
            faults
                .iter()
                .map(|fault| fault.to_string().replace(&prefix, ""))
                .collect()
        })
    }

    #[track_caller]
    fn refused(text: &str, line: &str) {
        assert_eq!(load_text(text, &[]).map(|_| ()), Err(vec![line.to_owned()]));
    }

    #[test]
    fn a_fault_says_where_what_and_how_to_mend_it() {
        refused(
            "domain = \"a.example\"\n[limts]\nlinks = 3\n",
            "encke.toml:2: limts is unknown; did you mean limits?",
        );
        refused(
            "domain = \"a.example\"\n\n[limits]\ndepht_max = 3\n",
            "encke.toml:4: limits.depht_max is unknown; did you mean limits.depth_max?",
        );
        refused(
            "domain = \"a.example\"\nrequire_tls = false\n",
            "encke.toml:2: require_tls is unknown; require_tls belongs into the table [c2s]",
        );
        refused(
            "domain = \"a.example\"\n[limits]\ndepth_max = 5_000\n",
            "encke.toml:3: limits.depth_max is out of bounds; give 8 to 1024 levels",
        );
        refused(
            "domain = \"a.example\"\n[limits]\ndepth_max = \"64\"\n",
            "encke.toml:3: limits.depth_max is a text; give a whole number of levels",
        );
        refused(
            "domain = \"a.example\"\n[listen]\nc2s = \"[::]:5222\"\n",
            "encke.toml:3: listen.c2s is a text; give a list: [\"address\", …]",
        );
        refused(
            "domain = \"a.example\"\n[listen]\nc2s = [\"127.0.0.1\"]\n",
            "encke.toml:3: listen.c2s: \"127.0.0.1\" is no address; \
             add a port: \"127.0.0.1:5222\"",
        );
        refused(
            "",
            "encke.toml: domain is missing; add domain = \"example.org\" at the top",
        );
        refused(
            "domain = \"a.example\"\ndomains = [\"b.example\"]\n",
            "encke.toml:2: give either domain or domains, not both",
        );
        refused(
            "domain = \"a.example\"\n[tls]\nkey = \"k.pem\"\n",
            "encke.toml:3: tls.key is set without tls.certificate; give both or none",
        );
        refused(
            "domain = \"a.example\"\n[http]\nproxy_protocol = true\n",
            "encke.toml:3: http.proxy_protocol is set without http.proxies; \
             say who the proxies are",
        );
        refused(
            "limits = 3\n",
            "encke.toml:1: limits is a table; write [limits]",
        );
    }

    #[test]
    fn bad_toml_is_one_line_too() {
        let faults = load_text("domain = \"a.example\"\nadmins = [\n", &[]).err();
        let faults = faults.expect("refused");
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("encke.toml:"), "{faults:?}");
        assert!(!faults[0].contains('\n'));
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let text = "domain = \"a.example\"\n[listen]\nc2s = [\"127.0.0.1:1\"]\n";
        let variables = [
            ("ENCKE__LISTEN__C2S", "127.0.0.1:2, [::1]:3"),
            ("ENCKE__LIMITS__DEPTH_MAX", "32"),
            ("ENCKE__DOMAINS", "b.example,c.example"),
        ];
        let loaded = load_text(text, &variables).expect("accepted");
        assert_eq!(loaded.config.listen_c2s, ["127.0.0.1:2", "[::1]:3"]);
        assert_eq!(loaded.config.limits.depth_max, 32);
        assert_eq!(loaded.config.domains, ["b.example", "c.example"]);
        let row = options::row("listen.c2s").expect("a row");
        assert_eq!(
            *loaded.source(row),
            Source::Variable("ENCKE__LISTEN__C2S".into())
        );
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let text = "domain = \"a.example\"\n";
        let faults = load_text(text, &[("ENCKE__LISTN__C2S", "x")]).err();
        let line = "ENCKE__LISTN__C2S: listn.c2s is unknown; c2s belongs into the table [listen]";
        assert_eq!(faults, Some(vec![line.to_owned()]));
    }

    #[test]
    fn a_secret_may_come_from_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        std::fs::write(&path, format!("{}\n", "ab".repeat(32))).expect("written");
        let name = path.display().to_string();
        let loaded = load_text("domain = \"a.example\"\n", &[("ENCKE__SECRET_FILE", &name)]);
        assert_eq!(
            loaded.expect("accepted").config.secret,
            Some("ab".repeat(32))
        );
    }

    #[test]
    fn names_are_kept_in_normal_form() {
        let text = "domain = \"EXAMPLE.org\"\nadmins = [\"Romeo@EXAMPLE.org\"]\n";
        let loaded = load_text(text, &[]).expect("accepted");
        assert_eq!(loaded.config.domains, ["example.org"]);
        assert_eq!(loaded.config.admins, ["romeo@example.org"]);
    }
}
