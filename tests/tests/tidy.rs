//! The house rules that a machine can check: floors, sizes, names, `unsafe`, markers, words, the README's start.
//!
//! Walks the repository's files. Each rule is one test that lists all offenders with path and line. The lists
//! of exceptions are exact: an entry that is no longer needed fails too, so they can only shrink.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates by folder: floor, and the crates of ours it may import. Only lower floors, and of those only what is named.
const FLOORS: &[(&str, &str, u8, &[&str])] = &[
    ("protocol", "waspmq-protocol", 0, &[]),
    ("settings", "waspmq-settings", 0, &[]),
    ("plugin-sdk", "waspmq-plugin-sdk", 0, &[]),
    ("store", "waspmq-store", 1, &["waspmq-protocol"]),
    ("remoting", "waspmq-remoting", 1, &["waspmq-protocol"]),
    ("plugin-host", "waspmq-plugin-host", 1, &["waspmq-plugin-sdk"]),
    ("plugins/", "", 1, &["waspmq-plugin-sdk"]),
    ("namesrv", "waspmq-namesrv", 2, LOWER),
    ("broker", "waspmq-broker", 3, LOWER),
    ("tests/load", "waspmq-load", 5, LOWER),
    ("tests", "waspmq-tests", 5, LOWER),
    ("examples/", "", 5, LOWER),
];
/// Whatever is on a lower floor.
const LOWER: &[&str] = &["*"];

/// Production lines of a file: all before its test module.
const FILE_LINES_MAX: usize = 500;
/// No exception reaches beyond this.
const FILE_LINES_NEVER: usize = 800;
/// Files still above the limit, with the length they must not exceed.
const LONG_FILES: &[(&str, usize)] = &[];
const FUNCTION_LINES_MAX: usize = 70;

/// The only files with `unsafe`.
const UNSAFE_FILES: &[&str] = &[
    "plugin-host/src/compiled.rs",
    "plugin-sdk/src/guest.rs",
    "plugin-sdk/src/plugin.rs",
    "protocol/tests/allocations.rs",
    "store/src/mapped_file.rs",
    "store/src/storage/disk.rs",
];

const NAMES_BANNED: &[&str] = &["util", "common", "helper", "manager", "service", "impl", "base"];
/// Split so that this file does not offend itself.
const MARKERS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
const CALLS_BANNED: &[&str] = &["todo!", "unimplemented!", "dbg!"];
/// Absolute paths of some machine, and hosts that package managers talk to: both belong into a user's own settings.
const WORDS_BANNED: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("../sha", "red/"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("registry.npm", "js.org"),
    concat!("registry.yarn", "pkg.com"),
    concat!("pypi", ".org"),
    concat!("files.python", "hosted.org"),
    concat!("repo.maven", ".apache.org"),
    concat!("repo1.maven", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("sum.golang", ".org"),
];
const TEXT_EXTENSIONS: &[&str] = &[
    "rs",
    "md",
    "toml",
    "lock",
    "yml",
    "yaml",
    "json",
    "jsonl",
    "sh",
    "py",
    "js",
    "mjs",
    "ts",
    "go",
    "mod",
    "sum",
    "java",
    "xml",
    "properties",
    "conf",
    "wat",
    "html",
    "css",
    "c",
    "h",
    "txt",
];
const FOLDERS_SKIPPED: &[&str] = &["target", ".git", "node_modules", "__pycache__", "corpus", "proptest-regressions"];

struct File {
    /// From the repository's root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Lines before the test module.
    fn production_lines(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let tests = lines.windows(2).position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "));
        tests.unwrap_or(lines.len())
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files() -> Vec<File> {
    let mut files = Vec::new();
    walk(&root(), "", &mut files);
    assert!(files.len() > 100, "only {} files found; is this the repository?", files.len());
    files
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("a folder can be listed").flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("an entry has a type");
        if kind.is_dir() && !FOLDERS_SKIPPED.contains(&name.as_str()) {
            walk(&entry.path(), &format!("{path}/"), files);
        }
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        if kind.is_file() && (TEXT_EXTENSIONS.contains(&extension) || name == "README" || name == "Dockerfile") {
            let text = fs::read(entry.path()).expect("a file can be read");
            files.push(File { path, text: String::from_utf8_lossy(&text).into_owned() });
        }
    }
}

fn rust_files() -> Vec<File> {
    files().into_iter().filter(File::is_rust).collect()
}

#[track_caller]
fn none(rule: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{rule} ({} offenders)\n  {}", offenders.len(), offenders.join("\n  "));
}

/// The source with the contents of comments, strings and characters blanked; lines and columns stay.
fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest {
            [b'/', b'/', ..] => at + rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len()),
            [b'/', b'*', ..] => at + comment_len(rest),
            [b'"', ..] => at + string_len(rest, 0),
            [b'r', b'"' | b'#', ..] | [b'b', b'r', b'"' | b'#', ..] if !after_word(bytes, at) => {
                let start = usize::from(rest[0] == b'b') + 1;
                let hashes = rest[start..].iter().take_while(|&&byte| byte == b'#').count();
                if rest.get(start + hashes) == Some(&b'"') { at + raw_string_len(rest, start, hashes) } else { at + 1 }
            }
            [b'\'', b'\\', ..] => at + 3 + rest[3..].iter().position(|&byte| byte == b'\'').unwrap_or(0),
            [b'\'', ..] => at + character_len(source, at),
            _ => at + 1,
        };
        if end > at + 1 {
            let blanked = out[at..end].iter_mut().filter(|byte| **byte != b'\n');
            blanked.for_each(|byte| *byte = b' ');
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn after_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

fn comment_len(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_len(rest: &[u8], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string_len(rest: &[u8], start: usize, hashes: usize) -> usize {
    let close = format!("\"{}", "#".repeat(hashes));
    let body = start + hashes + 1;
    let end = rest[body..].windows(close.len()).position(|window| window == close.as_bytes());
    end.map_or(rest.len(), |end| body + end + close.len())
}

/// Length of a character literal; 1 for the quote of a lifetime.
fn character_len(source: &str, at: usize) -> usize {
    let mut characters = source[at + 1..].chars();
    match (characters.next(), characters.next()) {
        (Some(character), Some('\'')) => character.len_utf8() + 2,
        _ => 1,
    }
}

/// Words of code with their line, counted from 1.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let split = |line| str::split(line, |c: char| !c.is_alphanumeric() && c != '_');
    code.lines().enumerate().flat_map(move |(at, line)| split(line).map(move |word| (at + 1, word)))
}

/// Functions longer than the limit: line and length.
fn long_functions(code: &str) -> Vec<(usize, usize)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for (start, _) in code.match_indices("fn ").filter(|(start, _)| !after_word(bytes, *start)) {
        let Some(open) = code[start..].find(['{', ';']).map(|at| start + at).filter(|&at| bytes[at] == b'{') else {
            continue;
        };
        let mut depth = 0usize;
        let mut close = open;
        for (at, byte) in bytes.iter().enumerate().skip(open) {
            depth = match byte {
                b'{' => depth + 1,
                b'}' => depth.saturating_sub(1),
                _ => depth,
            };
            if depth == 0 {
                close = at;
                break;
            }
        }
        let lines = code[start..close].matches('\n').count() + 1;
        if lines > FUNCTION_LINES_MAX {
            found.push((code[..start].matches('\n').count() + 1, lines));
        }
    }
    found
}

fn floor_of(path: &str) -> Option<&'static (&'static str, &'static str, u8, &'static [&'static str])> {
    FLOORS.iter().find(|(folder, ..)| {
        path.strip_prefix(folder).is_some_and(|rest| folder.ends_with('/') || rest.starts_with('/'))
    })
}

/// Whether a file at `path` may import the crate `wanted`. A crate may import itself: its tests and programs do.
fn may_import(path: &str, wanted: &str) -> bool {
    let Some((_, own, floor, allowed)) = floor_of(path) else { return false };
    let lower = FLOORS.iter().any(|(_, name, other, _)| *name == wanted && other < floor);
    wanted == *own || (lower && (allowed.contains(&wanted) || allowed.contains(&"*")))
}

#[test]
fn crates_import_lower_floors_only() {
    let mut offenders = Vec::new();
    for file in files() {
        if file.name() == "Cargo.toml" && file.path != "Cargo.toml" {
            if floor_of(&file.path).is_none() {
                offenders.push(file.at(1, "a crate without a floor: give it one in tests/tests/tidy.rs"));
            }
            let table: toml::Table = file.text.parse().expect("a Cargo.toml is TOML");
            for name in dependencies(&table).into_iter().filter(|name| name.starts_with("waspmq-")) {
                if !may_import(&file.path, &name) {
                    let line = file.text.lines().position(|line| line.contains(&name)).unwrap_or(0);
                    offenders.push(file.at(line + 1, &format!("depends on {name}, which is not below it")));
                }
            }
        }
        if file.is_rust() {
            for (line, word) in words(&code_only(&file.text)).filter(|(_, word)| word.starts_with("waspmq_")) {
                let own = file.path.starts_with("plugins/") || file.path.starts_with("examples/");
                let name = word.replace('_', "-");
                let is_crate = FLOORS.iter().any(|(_, known, ..)| *known == name);
                if !may_import(&file.path, &name) && (is_crate || !own) {
                    offenders.push(file.at(line, &format!("names {word}, which is not below it")));
                }
            }
        }
    }
    none("a crate imports from lower floors only", offenders);
}

fn dependencies(table: &toml::Table) -> Vec<String> {
    let mut names = Vec::new();
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if matches!(key.as_str(), "dependencies" | "dev-dependencies" | "build-dependencies") {
            names.extend(inner.iter().map(|(name, value)| {
                value.get("package").and_then(|package| package.as_str()).unwrap_or(name).to_owned()
            }));
        } else if key != "workspace" {
            names.extend(dependencies(inner));
        }
    }
    names
}

#[test]
fn files_are_short() {
    let exceptions: BTreeMap<&str, usize> = LONG_FILES.iter().copied().collect();
    let mut offenders = Vec::new();
    let files = rust_files();
    for file in &files {
        let lines = file.production_lines();
        let limit = exceptions.get(file.path.as_str()).copied().unwrap_or(FILE_LINES_MAX).min(FILE_LINES_NEVER);
        if lines > limit {
            offenders.push(file.at(lines, &format!("{lines} production lines, the limit is {limit}")));
        }
        if lines <= FILE_LINES_MAX && exceptions.contains_key(file.path.as_str()) {
            offenders.push(file.at(lines, "is short enough now: take it out of LONG_FILES"));
        }
    }
    for path in exceptions.keys().filter(|path| files.iter().all(|file| file.path != **path)) {
        offenders.push(format!("{path}:1: does not exist: take it out of LONG_FILES"));
    }
    none("a file has one subject and few lines", offenders);
}

#[test]
fn functions_are_short() {
    let long = |file: &File| {
        let found = long_functions(&code_only(&file.text)).into_iter();
        found
            .map(|(line, length)| {
                file.at(line, &format!("a function of {length} lines, the limit is {FUNCTION_LINES_MAX}"))
            })
            .collect::<Vec<_>>()
    };
    none("a function does one thing", rust_files().iter().flat_map(long).collect());
}

#[test]
fn files_and_types_are_named_for_what_they_are() {
    let mut offenders = Vec::new();
    for file in rust_files() {
        if NAMES_BANNED.iter().any(|word| file.name().to_lowercase().starts_with(word)) {
            offenders.push(file.at(1, "a file name for anything"));
        }
        let code = code_only(&file.text);
        let words: Vec<_> = words(&code).filter(|(_, word)| !word.is_empty()).collect();
        for pair in words.windows(2).filter(|pair| matches!(pair[0].1, "struct" | "enum" | "trait")) {
            let (line, name) = pair[1];
            if camel_words(name).iter().any(|word| NAMES_BANNED.contains(&word.trim_end_matches('s'))) {
                offenders.push(file.at(line, &format!("{name}: a type name for anything")));
            }
        }
    }
    none("a name says what is inside", offenders);
}

/// The words of a type's name, in lower case.
fn camel_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for character in name.chars() {
        match words.last_mut() {
            Some(word) if !character.is_uppercase() => word.push(character),
            _ => words.push(character.to_lowercase().collect()),
        }
    }
    words
}

#[test]
fn files_open_with_what_lives_there() {
    let closed = |file: &&File| !file.text.starts_with("//! ");
    let files = rust_files();
    none(
        "a file opens with `//!` lines",
        files.iter().filter(closed).map(|file| file.at(1, "no `//!` line")).collect(),
    );
}

#[test]
fn nothing_is_left_for_later() {
    let mut offenders = Vec::new();
    for file in files() {
        if file.is_rust() {
            let code = code_only(&file.text);
            for (at, line) in code.lines().enumerate() {
                let found = CALLS_BANNED.iter().copied().chain(["#[ignore"]).find(|banned| line.contains(banned));
                offenders.extend(found.map(|banned| file.at(at + 1, banned)));
            }
        }
        if !file.path.ends_with(".lock") && !file.path.ends_with(".sum") {
            let marked = words(&file.text).filter(|(_, word)| MARKERS.contains(word));
            offenders.extend(marked.map(|(line, word)| file.at(line, word)));
        }
    }
    none("finished, or not there; a test runs, or does not exist", offenders);
}

#[test]
fn unsafe_stays_in_its_files() {
    let mut offenders = Vec::new();
    let mut unused: Vec<&str> = UNSAFE_FILES.to_vec();
    for file in rust_files() {
        let code = code_only(&file.text);
        let mut lines = words(&code).filter(|(_, word)| *word == "unsafe").peekable();
        if lines.peek().is_some() {
            unused.retain(|path| *path != file.path);
        }
        if !UNSAFE_FILES.contains(&file.path.as_str()) {
            offenders.extend(lines.map(|(line, word)| file.at(line, word)));
        }
    }
    offenders.extend(unused.iter().map(|path| format!("{path}:1: has no unsafe: take it out of UNSAFE_FILES")));
    none("`unsafe` in the listed files only", offenders);
}

#[test]
fn no_machine_is_named() {
    let mut offenders = Vec::new();
    for file in files() {
        for (at, line) in file.text.lines().enumerate() {
            let found = WORDS_BANNED.iter().filter(|word| line.contains(**word));
            offenders.extend(found.map(|word| file.at(at + 1, word)));
        }
    }
    none("no path of one machine, no host of a package registry", offenders);
}

#[test]
fn the_readme_says_how_to_start() {
    let text = fs::read_to_string(root().join("README.md")).unwrap_or_default();
    for command in ["cargo test", "cargo run --release --bin broker -- --plugins ./plugins"] {
        assert!(text.contains(command), "README.md does not name `{command}`");
    }
}

/// The rules above are worth what their reading of the source is worth.
#[test]
fn source_is_read_correctly() {
    let source =
        "let a = \"unsafe { \\\" }\"; // unsafe\n/* { /* } */ */ let c = '{'; let q = '\\''; x::<'a>(r#\"fn \"{\"#);";
    let code = code_only(source);
    assert_eq!(code.len(), source.len());
    assert!(!code.contains("unsafe") && !code.contains('{') && !code.contains("fn "), "{code}");
    assert!(code.contains("let c") && code.contains("x::<'a>("), "{code}");
    let body = "\n".repeat(FUNCTION_LINES_MAX);
    assert_eq!(
        long_functions(&format!("x;\nfn f() {{{body}}}\nfn g() {{ }}\ntype F = fn (u8);")),
        [(2, FUNCTION_LINES_MAX + 1)]
    );
    assert!(may_import("store/src/lib.rs", "waspmq-protocol") && may_import("tests/load/src/main.rs", "waspmq-broker"));
    assert!(may_import("store/tests/x.rs", "waspmq-store") && !may_import("store/src/lib.rs", "waspmq-remoting"));
    assert!(
        !may_import("plugins/tag-filter/src/lib.rs", "waspmq-protocol")
            && !may_import("broker/Cargo.toml", "waspmq-tests")
    );
    assert_eq!(camel_words("OffsetManager"), ["offset", "manager"]);
    let table = "[target.'cfg(unix)'.dev-dependencies]\na = { package = \"waspmq-x\", path = \"x\" }".parse().unwrap();
    assert_eq!(dependencies(&table), ["waspmq-x"]);
}
