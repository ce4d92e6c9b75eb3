//! Plugins written in WebAssembly text, made to misbehave on request, and a host to run them in. Used by the tests beside
//! this folder. What a guest does with a message is said by the message: its `flag`, or its tags code when it is asked by
//! entry.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part of this; tests may unwrap")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use waspmq_plugin_host::{
    Decision, EntryRef, FilterHandle, HostConfig, HostLimits, PluginEvent, PluginEvents, PluginHost, PluginState,
    PluginStatus, RecordRef, StandardPlugin, SubscriptionText,
};
use waspmq_plugin_sdk::abi::Manifest;

/// Message flags a guest obeys.
pub(crate) const KEEP: i32 = 0;
pub(crate) const DROP: i32 = 1;
pub(crate) const TRAP: i32 = 2;
pub(crate) const LOOP: i32 = 3;
pub(crate) const ERROR: i32 = 4;

/// A plugin in the making.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) decides: &'static str,
    /// Verdict of the current message (local `$flag`): 0 drop, 1 keep, 2 cannot say.
    pub(crate) verdict: String,
    /// Runs at the end of `filter`; 0 says answered.
    pub(crate) finish: String,
    /// Runs at the beginning of `control`.
    pub(crate) control: String,
    /// More fields of the module.
    pub(crate) extra: String,
    pub(crate) arenas: [u32; 4],
    pub(crate) marker: String,
    pub(crate) abi_major: u16,
    pub(crate) hooks: Vec<String>,
    pub(crate) memory_pages: u32,
}

pub(crate) fn guest(name: &str) -> Guest {
    let verdict = "
        (if (i32.eq (local.get $flag) (i32.const 2)) (then unreachable))
        (if (i32.eq (local.get $flag) (i32.const 3)) (then (loop $ever (br $ever))))
        (if (result i32) (i32.eq (local.get $flag) (i32.const 4))
            (then (i32.const 2))
            (else (i32.eqz (local.get $flag))))";
    Guest {
        name: name.into(),
        version: "1.0.0".into(),
        decides: "tokens",
        verdict: verdict.into(),
        finish: "(i32.const 0)".into(),
        control: String::new(),
        extra: String::new(),
        arenas: [4096, 256 * 1024, 4096 + 256 * 1024, 8192],
        marker: "wq_abi_1".into(),
        abi_major: 1,
        hooks: vec!["filter".into()],
        memory_pages: 6,
    }
}

impl Guest {
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    pub(crate) fn decides(mut self, decides: &'static str) -> Self {
        self.decides = decides;
        self
    }

    pub(crate) fn verdict(mut self, verdict: &str) -> Self {
        self.verdict = verdict.into();
        self
    }

    pub(crate) fn finish(mut self, finish: &str) -> Self {
        self.finish = finish.into();
        self
    }

    pub(crate) fn extra(mut self, extra: &str) -> Self {
        self.extra = extra.into();
        self
    }

    /// Operations whose number the condition names are refused with "no".
    pub(crate) fn refuses(mut self, op: i32) -> Self {
        self.control = format!(
            "(if (i32.eq (local.get $op) (i32.const {op})) (then
                (memory.copy (i32.const {out}) (i32.const 256) (i32.const 24))
                (return (i32.const 24))))",
            out = self.arenas[2]
        );
        self
    }

    pub(crate) fn wat(&self) -> String {
        let manifest = Manifest {
            name: self.name.clone(),
            version: self.version.clone(),
            abi_major: self.abi_major,
            abi_minor: 0,
            sdk_version: "by hand".into(),
            hooks: self.hooks.clone(),
            body_bytes_max: 0,
            memory_bytes_max: 0,
        };
        let manifest = escaped(&rmp_serde::to_vec_named(&manifest).unwrap());
        let arenas = escaped(&self.arenas.map(u32::to_le_bytes).concat());
        // One answer for all operations: each reads the fields it knows.
        let mut ok = b"\x81\xa2ok\x82\xa6checks\x00\xa7decides".to_vec();
        ok.push(0xa0 | self.decides.len() as u8);
        ok.extend_from_slice(self.decides.as_bytes());
        let refused = escaped(b"\x81\xa5error\x81\xa7message\xa7no, no.");
        let (verdict, finish, control, extra) = (&self.verdict, &self.finish, &self.control, &self.extra);
        let (marker, pages, [input, _, out, _]) = (&self.marker, self.memory_pages, self.arenas);
        let (ok_text, ok_len) = (escaped(&ok), ok.len());
        format!(
            r#"(module
  (@custom "wq.manifest" "{manifest}")
  {extra}
  (memory (export "memory") {pages})
  (data (i32.const 16) "{arenas}")
  (data (i32.const 64) "{ok_text}")
  (data (i32.const 256) "{refused}")
  (func (export "{marker}"))
  (func (export "wq_arenas") (result i32) (i32.const 16))
  (func (export "control") (param $op i32) (param $len i32) (result i32)
    {control}
    (memory.copy (i32.const {out}) (i32.const 64) (i32.const {ok_len}))
    (i32.const {ok_len}))
  (func (export "filter") (param $len i32) (result i32)
    (local $i i32) (local $count i32) (local $at i32) (local $flag i32) (local $verdict i32)
    (local $keep i64) (local $error i64)
    (local.set $count (i32.load offset={input} (i32.const 8)))
    (local.set $at (i32.add (i32.const {input}) (i32.load offset={input} (i32.const 24))))
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
      (local.set $flag (if (result i32) (i32.eq (i32.load16_u offset={input} (i32.const 6)) (i32.const 1))
        (then (i32.wrap_i64 (i64.load offset=32 (local.get $at))))
        (else (i32.load offset=52 (local.get $at)))))
      (local.set $verdict {verdict})
      (if (i32.eq (local.get $verdict) (i32.const 1)) (then
        (local.set $keep (i64.or (local.get $keep) (i64.shl (i64.const 1) (i64.extend_i32_u (local.get $i)))))))
      (if (i32.eq (local.get $verdict) (i32.const 2)) (then
        (local.set $error (i64.or (local.get $error) (i64.shl (i64.const 1) (i64.extend_i32_u (local.get $i)))))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (local.set $at (i32.add (local.get $at) (i32.load16_u offset={input} (i32.const 12))))
      (br $next)))
    (i64.store offset={out} (i32.const 0) (local.get $keep))
    (i64.store offset={out} (i32.const 8) (local.get $error))
    {finish})
)"#
        )
    }

    pub(crate) fn wasm(&self) -> Vec<u8> {
        wat::parse_str(self.wat()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) fn standard(&self) -> StandardPlugin {
        StandardPlugin { name: self.name.clone().leak(), wasm: self.wasm().leak(), compiled: None }
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}

/// Keeps all events.
#[derive(Default)]
pub(crate) struct Events(pub(crate) Mutex<Vec<PluginEvent>>);

impl PluginEvents for Events {
    fn changed(&self, event: &PluginEvent) {
        self.0.lock().unwrap().push(event.clone());
    }
}

/// A host with a folder of its own and short periods.
pub(crate) struct Running {
    pub(crate) host: Arc<PluginHost>,
    pub(crate) events: Arc<Events>,
    folder: tempfile::TempDir,
}

pub(crate) fn short_limits() -> HostLimits {
    HostLimits {
        settle: Duration::from_millis(40),
        rescan: Duration::from_secs(1),
        pause: Duration::from_millis(300),
        ..HostLimits::default()
    }
}

pub(crate) fn start(standard: Vec<StandardPlugin>, files: &[(&str, &[u8])]) -> Running {
    start_with(standard, files, short_limits())
}

pub(crate) fn start_with(standard: Vec<StandardPlugin>, files: &[(&str, &[u8])], limits: HostLimits) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    for (name, bytes) in files {
        std::fs::write(plugins.join(name), bytes).unwrap();
    }
    let events = Arc::new(Events::default());
    let config = HostConfig {
        folder: Some(plugins),
        cache_folder: folder.path().join("cache"),
        standard: standard.leak(),
        workers: 2,
        limits,
    };
    let host = PluginHost::start(config, Arc::clone(&events) as Arc<dyn PluginEvents>).unwrap();
    Running { host, events, folder }
}

/// A host with the one plugin `guest` in its folder.
pub(crate) fn start_one(guest: &Guest) -> Running {
    start(Vec::new(), &[("plugin.wasm", &guest.wasm())])
}

impl Running {
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().join("plugins")
    }

    /// As `cp` or a deployment tool does.
    pub(crate) fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder().join(name), bytes).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder().join(name)).unwrap();
    }

    pub(crate) fn subscribe(&self, plugin: &str) -> FilterHandle {
        self.host.prepare(text(plugin, "any")).unwrap()
    }

    pub(crate) fn status(&self, name: &str) -> Option<PluginStatus> {
        let mut list = self.host.plugins();
        list.retain(|status| status.name == name && status.state != PluginState::Overridden);
        assert!(list.len() <= 1, "{list:?}");
        list.pop()
    }

    #[track_caller]
    pub(crate) fn wait_version(&self, name: &str, version: &str) {
        wait(&format!("{name} {version}"), || self.status(name).is_some_and(|status| status.version == version));
    }

    #[track_caller]
    pub(crate) fn wait_error(&self, name: &str, part: &str) {
        wait(part, || {
            let error = self.status(name).and_then(|status| status.last_error);
            error.is_some_and(|error| error.contains(part))
        });
    }

    pub(crate) fn events(&self) -> Vec<PluginEvent> {
        self.events.0.lock().unwrap().clone()
    }
}

pub(crate) fn text(plugin: &str, expression: &str) -> SubscriptionText {
    SubscriptionText {
        topic: "Orders".into(),
        group: "readers".into(),
        expression_type: plugin.into(),
        expression: expression.into(),
    }
}

#[track_caller]
pub(crate) fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < Duration::from_secs(15), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Messages that make a guest do as their flags say. Offsets begin at `first`.
pub(crate) fn records(first: i64, flags: &[i32]) -> Vec<RecordRef<'static>> {
    let record = |(index, flag): (usize, &i32)| RecordRef {
        queue_offset: first + index as i64,
        physical_offset: (first + index as i64) * 1000,
        born_ms: 1,
        store_ms: 2,
        tags_code: i64::from(*flag),
        sys_flag: 0,
        queue_id: 0,
        reconsume: 0,
        flag: *flag,
        properties: b"a\x016\x02region\x01hz\x02",
        body: b"body",
    };
    flags.iter().enumerate().map(record).collect()
}

/// One session's verdicts by records.
pub(crate) fn ask(handle: &FilterHandle, first: i64, flags: &[i32]) -> Vec<Decision> {
    let records = records(first, flags);
    let mut verdicts = vec![Decision::NeedRecord; records.len()];
    handle.session().by_records(&records, &mut verdicts);
    verdicts
}

/// One session's verdicts by entries.
pub(crate) fn ask_entries(handle: &FilterHandle, first: i64, flags: &[i32]) -> Vec<Decision> {
    let entry = |(index, flag): (usize, &i32)| EntryRef {
        queue_offset: first + index as i64,
        physical_offset: (first + index as i64) * 1000,
        tags_code: i64::from(*flag),
    };
    let entries: Vec<EntryRef> = flags.iter().enumerate().map(entry).collect();
    let mut verdicts = vec![Decision::CannotSay; entries.len()];
    handle.session().by_entries(&entries, &mut verdicts);
    verdicts
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}
