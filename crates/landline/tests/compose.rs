//! `docker-compose.yml` is one that Compose accepts, and keeps the regions apart.

mod support;

use std::process::Command;

const COMPOSE: &str = "/usr/bin/docker-compose";
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker-compose.yml");

#[test]
fn compose_accepts_the_file() {
    if !support::have(&[COMPOSE]) {
        return;
    }
    let checked =
        Command::new(COMPOSE).args(["-f", FILE, "config", "--services"]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut services: Vec<_> = std::str::from_utf8(&checked.stdout).unwrap().lines().collect();
    services.sort_unstable();
    let wanted = ["ie1", "us1"].map(|region| {
        ["database", "proxy", "relay", "setup"].map(|role| format!("{region}-{role}"))
    });
    assert_eq!(services, wanted.concat());
}

#[test]
fn only_the_proxies_see_another_region() {
    let text = std::fs::read_to_string(FILE).unwrap();
    let mut service = "";
    for line in text.lines() {
        let name = line.strip_prefix("  ").and_then(|line| line.strip_suffix(':'));
        if let Some(name) = name.filter(|name| name.contains('-') && !name.starts_with(' ')) {
            service = name;
        }
        if let Some(networks) = line.trim().strip_prefix("networks: ") {
            let (region, role) = service.split_once('-').unwrap();
            let wanted = match role {
                "proxy" => format!("[{region}, between]"),
                _ => format!("[{region}]"),
            };
            assert_eq!(networks, wanted, "{service}");
        }
    }
}
