//! What a process of this machine uses: CPU and memory, from proc(5).

use std::fs;

use anyhow::Context;

/// User and system time of a process so far, seconds. Fields 14 and 15 of stat, in ticks of 10 ms.
///
/// # Errors
/// There is no such process.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    let after_name = stat.rsplit_once(')').context("stat has no name")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|field| field.parse::<f64>().ok()).context("stat is short");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// Proportional set size of a process, KiB. The kernel walks all of its pages for it.
///
/// # Errors
/// There is no such process.
pub fn pss_kib(pid: u32) -> anyhow::Result<f64> {
    kib(pid, "smaps_rollup", "Pss:")
}

/// Resident memory of a process, KiB.
///
/// # Errors
/// There is no such process.
pub fn resident_kib(pid: u32) -> anyhow::Result<f64> {
    kib(pid, "status", "VmRSS:")
}

fn kib(pid: u32, file: &str, field: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("process {pid}"))?;
    let line = text.lines().find(|line| line.starts_with(field)).with_context(|| format!("no {field} line"))?;
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).with_context(|| format!("{field} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_its_own_process() {
        let own = std::process::id();
        assert!(pss_kib(own).expect("proc") > 100.0 && resident_kib(own).expect("proc") > 100.0);
        assert!(cpu_seconds(own).expect("proc") >= 0.0);
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
