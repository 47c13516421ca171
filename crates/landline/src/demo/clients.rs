//! Softphones that people have: ready configuration, and how to start them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::cast::{Account, User};
use super::layout::{Layout, Site};
use crate::config::Transport;
use crate::files;

/// Where Debian, others and macOS keep baresip's modules.
const BARESIP_MODULES: [&str; 4] = [
    "/usr/lib/baresip/modules",
    "/usr/lib/x86_64-linux-gnu/baresip/modules",
    "/usr/local/lib/baresip/modules",
    "/opt/homebrew/lib/baresip/modules",
];

/// Writes a configuration directory for baresip and a file for Linphone for
/// every user, for their owner alone.
pub fn write(layout: &Layout, accounts: &[Account]) -> Result<()> {
    for (account, site, user) in everybody(layout, accounts) {
        let dir = baresip_dir(layout, account, user);
        std::fs::create_dir_all(&dir).with_context(|| format!("{}", dir.display()))?;
        put(&dir.join("config"), &baresip_config(layout, site))?;
        put(&dir.join("accounts"), &baresip_account(account, site, user))?;
        put(&linphone_file(layout, account, user), &linphone(layout, account, site, user))?;
    }
    Ok(())
}

/// Copy-and-paste lines for the first account; the others are alike.
pub fn instructions(layout: &Layout, accounts: &[Account]) -> String {
    let Some((account, site)) =
        accounts.iter().find_map(|account| Some((account, layout.site(&account.home_region)?)))
    else {
        return String::new();
    };
    let user = |name: &str| account.users.iter().find(|user| user.user == name);
    let (Some(alice), Some(bob), Some(carol)) = (user("alice"), user("bob"), user("carol")) else {
        return String::new();
    };
    let mut text = format!(
        "To join in as a user of {domain} (every region's proxy takes every account's users):\n\n",
        domain = account.domain
    );
    let mut add = |title: &str, lines: &[String]| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{title}");
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
        text.push('\n');
    };
    add(
        "The web phone, in a browser that trusts the CA below (or that you tell to go on):",
        &[
            format!("https://{}/phone/", site.console()),
            format!(
                "sign in as {user}@{domain}, password {password}; then call bob",
                user = carol.user,
                domain = account.domain,
                password = carol.password,
            ),
        ],
    );
    add(
        "baresip, two of them, each in a terminal; then /dial bob:",
        &[
            format!("baresip -f {}", baresip_dir(layout, account, alice).display()),
            format!("baresip -f {}", baresip_dir(layout, account, bob).display()),
        ],
    );
    add(
        "Linphone; then call bob:",
        &[format!("linphonec -c {}", linphone_file(layout, account, carol).display())],
    );
    add("Any other softphone:", &by_hand(layout, account, site));
    text.push_str(&format!(
        "Records: landline calls list --data {data}    recordings: landline recording list --data {data}",
        data = layout.data.display()
    ));
    text
}

fn by_hand(layout: &Layout, account: &Account, site: &Site) -> Vec<String> {
    let mut lines = vec![
        format!("domain     {}", account.domain),
        format!(
            "proxy      {} (TLS)   {} (UDP, TCP)   wss://{}   ws://{}",
            site.sip(Transport::Tls),
            site.sip(Transport::Udp),
            site.sip(Transport::Wss),
            site.sip(Transport::Ws)
        ),
        format!("CA         {}", layout.ca_file().display()),
        "media      DTLS-SRTP or SDES; plain RTP is refused".to_owned(),
    ];
    for user in &account.users {
        lines.push(format!(
            "user       {:<6} password {}   number {}   media {}",
            user.user, user.password, user.number, user.media
        ));
    }
    lines
}

fn everybody<'a>(
    layout: &'a Layout,
    accounts: &'a [Account],
) -> impl Iterator<Item = (&'a Account, &'a Site, &'a User)> {
    accounts
        .iter()
        .filter_map(|account| Some((account, layout.site(&account.home_region)?)))
        .flat_map(|(account, site)| account.users.iter().map(move |user| (account, site, user)))
}

fn baresip_dir(layout: &Layout, account: &Account, user: &User) -> PathBuf {
    layout.data.join("clients").join(format!("baresip-{}@{}", user.user, account.domain))
}

fn linphone_file(layout: &Layout, account: &Account, user: &User) -> PathBuf {
    layout.data.join("clients").join(format!("linphone-{}@{}", user.user, account.domain))
}

fn baresip_config(layout: &Layout, site: &Site) -> String {
    let modules = BARESIP_MODULES
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .unwrap_or(BARESIP_MODULES[0]);
    let mut text = format!("module_path {modules}\nsip_cafile {}\n", layout.ca_file().display());
    if site.bind.is_loopback() {
        // baresip leaves loopback out unless it is named.
        let _ = writeln!(text, "net_interface {}", site.bind);
    }
    for module in ["stdio", "g711", "opus", "srtp", "dtls_srtp", "alsa"] {
        let _ = writeln!(text, "module {module}.so");
    }
    text.push_str(
        "module_tmp uuid.so\nmodule_tmp account.so\nmodule_app auloop.so\nmodule_app menu.so\n",
    );
    text.push_str(
        "audio_player alsa,default\naudio_source alsa,default\naudio_alert alsa,default\n",
    );
    text
}

fn baresip_account(account: &Account, site: &Site, user: &User) -> String {
    format!(
        "<sip:{user}@{domain};transport=tls>;auth_user={user};auth_pass={password};outbound=\"sip:{tls};transport=tls\";mediaenc=dtls_srtp;regint=300\n",
        user = user.user,
        domain = account.domain,
        password = user.password,
        tls = site.sip(Transport::Tls),
    )
}

fn linphone(layout: &Layout, account: &Account, site: &Site, user: &User) -> String {
    let tls: SocketAddr = site.sip(Transport::Tls);
    // Linphone's TLS compares names alone, never an address: the signature is
    // checked, the name cannot be. Ports of -1 are any free ones: several users
    // may sit at one machine.
    format!(
        "[sip]\nroot_ca={ca}\nverify_server_certs=1\nverify_server_cn=0\nsip_port=0\nsip_tcp_port=0\nsip_tls_port=-1\nmedia_encryption=dtls\ndefault_proxy=0\n\n\
         [rtp]\naudio_rtp_port=-1\n\n\
         [auth_info_0]\nusername={user}\nrealm={domain}\ndomain={domain}\npasswd={password}\n\n\
         [proxy_0]\nreg_proxy=<sip:{tls};transport=tls>\nreg_route=<sip:{tls};transport=tls>\nreg_identity=<sip:{user}@{domain}>\nreg_expires=300\nreg_sendregister=1\n",
        ca = layout.ca_file().display(),
        user = user.user,
        domain = account.domain,
        password = user.password,
    )
}

fn put(file: &Path, text: &str) -> Result<()> {
    files::replace(file, text.as_bytes(), 0o600).with_context(|| format!("{}", file.display()))
}
