//! What the operating system says of this process, under the names every Prometheus client uses.

use std::fmt::Write as _;
use std::fs;

/// Ticks per second in `/proc`: the kernel's USER_HZ, 100 on every architecture that is built for (it is part of the ABI).
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading of `/proc/self`; what cannot be read is left out.
#[derive(Debug, Default, PartialEq)]
struct Process {
    cpu_seconds: Option<f64>,
    start_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<usize>,
    max_fds: Option<u64>,
}

/// Appends the `process_…` series. Reads a few small files; not for the async threads.
pub(super) fn append(out: &mut String) {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let mut process = parse(&read("/proc/self/stat"), &read("/proc/stat"), &read("/proc/self/status"), &read("/proc/self/limits"));
    // The listing itself has one open.
    process.open_fds = fs::read_dir("/proc/self/fd").ok().map(|dir| dir.count().saturating_sub(1));
    write(&process, out);
}

fn parse(stat: &str, system: &str, status: &str, limits: &str) -> Process {
    // The program's name stands in brackets and may hold anything: what counts comes after the last one.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split_whitespace().collect());
    // proc(5) counts from 1 and the state, first here, is field 3.
    let field = |n: usize| fields.get(n - 3).and_then(|text| text.parse::<f64>().ok());
    let booted = line(system, "btime").and_then(|text| text.parse::<f64>().ok());
    let kib = |key| line(status, key).and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).map(|n| n * 1_024);
    Process {
        cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND),
        start_seconds: field(22).zip(booted).map(|(ticks, booted)| booted + ticks / TICKS_PER_SECOND),
        resident_bytes: kib("VmRSS:"),
        virtual_bytes: kib("VmSize:"),
        threads: line(status, "Threads:").and_then(|text| text.parse().ok()),
        open_fds: None,
        // `unlimited` is left out.
        max_fds: line(limits, "Max open files").and_then(|text| text.split_whitespace().next()?.parse().ok()),
    }
}

/// What follows a key at the beginning of a line.
fn line<'t>(text: &'t str, key: &str) -> Option<&'t str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

fn write(process: &Process, out: &mut String) {
    let Process { cpu_seconds, start_seconds, resident_bytes, virtual_bytes, threads, open_fds, max_fds } = process;
    let mut series = |name: &str, kind: &str, help: &str, value: Option<String>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        }
    };
    series("process_cpu_seconds_total", "counter", "User and system CPU time", cpu_seconds.map(|v| v.to_string()));
    series("process_start_time_seconds", "gauge", "When the process began, in Unix time", start_seconds.map(|v| v.to_string()));
    series("process_resident_memory_bytes", "gauge", "Resident memory", resident_bytes.map(|v| v.to_string()));
    series("process_virtual_memory_bytes", "gauge", "Virtual memory", virtual_bytes.map(|v| v.to_string()));
    series("process_threads", "gauge", "Threads of the operating system", threads.map(|v| v.to_string()));
    series("process_open_fds", "gauge", "Open file descriptors", open_fds.map(|v| v.to_string()));
    series("process_max_fds", "gauge", "File descriptors that may be open", max_fds.map(|v| v.to_string()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_brackets_and_spaces_shifts_nothing() {
        let stat = "42 (wk) 1 (x) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 1000 20 21";
        let read = parse(
            stat,
            "cpu 1\nbtime 1700000000\n",
            "VmSize:\t  20 kB\nVmRSS:\t  10 kB\nThreads:\t3\n",
            "Max open files 1024 4096 files\n",
        );
        let want = Process {
            cpu_seconds: Some(2.0),
            start_seconds: Some(1_700_000_010.0),
            resident_bytes: Some(10_240),
            virtual_bytes: Some(20_480),
            threads: Some(3),
            open_fds: None,
            max_fds: Some(1_024),
        };
        assert_eq!(read, want);
        assert_eq!(parse("", "", "", ""), Process::default());
    }

    #[test]
    fn this_process_can_be_read() {
        let mut out = String::new();
        append(&mut out);
        for name in ["process_cpu_seconds_total", "process_start_time_seconds", "process_resident_memory_bytes", "process_open_fds"] {
            assert!(out.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} is missing in\n{out}");
        }
    }
}
