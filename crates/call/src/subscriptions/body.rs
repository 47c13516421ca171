//! The documents that watchers are sent.

use std::fmt::Write;

use super::{DialogSeen, Mailbox, Presence, Progress};

const XML: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n";

/// All of a user's dialogs (RFC 4235 §4.1).
pub(super) fn dialogs(entity: &str, version: u32, now: &[DialogSeen]) -> String {
    document(entity, version, "full", now.iter().map(|it| (it, it.progress.name())))
}

/// Those that are other than the watcher knows them.
pub(super) fn dialogs_changed(
    entity: &str,
    version: u32,
    known: &[DialogSeen],
    now: &[DialogSeen],
) -> String {
    let gone = known.iter().filter(|it| !now.iter().any(|other| other.call == it.call));
    let gone = gone.map(|it| (it, "terminated"));
    let changed = now.iter().filter(|it| !known.contains(it)).map(|it| (it, it.progress.name()));
    document(entity, version, "partial", gone.chain(changed))
}

fn document<'a>(
    entity: &str,
    version: u32,
    state: &str,
    dialogs: impl Iterator<Item = (&'a DialogSeen, &'static str)>,
) -> String {
    let entity = escaped(entity);
    let mut text = format!(
        "{XML}<dialog-info xmlns=\"urn:ietf:params:xml:ns:dialog-info\" version=\"{version}\" \
         state=\"{state}\" entity=\"{entity}\">\r\n"
    );
    for (dialog, progress) in dialogs {
        let DialogSeen { call, call_id, phones_tag, our_tag, is_initiator, .. } = dialog;
        let (id, call_id, our_tag) = (call.0, escaped(call_id), escaped(our_tag));
        let direction = if *is_initiator { "initiator" } else { "recipient" };
        let _ = write!(text, "<dialog id=\"c{id}\" call-id=\"{call_id}\"");
        if let Some(tag) = phones_tag {
            let _ = write!(text, " local-tag=\"{}\"", escaped(tag));
        }
        let _ = write!(
            text,
            " remote-tag=\"{our_tag}\" direction=\"{direction}\"><state>{progress}</state>\
             </dialog>\r\n"
        );
    }
    text + "</dialog-info>\r\n"
}

/// RFC 3842 §5.2.
pub(super) fn mailbox(entity: &str, Mailbox { new, old }: Mailbox) -> String {
    let waiting = if new > 0 { "yes" } else { "no" };
    format!(
        "Messages-Waiting: {waiting}\r\nMessage-Account: {entity}\r\n\
         Voice-Message: {new}/{old} (0/0)\r\n"
    )
}

/// PIDF (RFC 3863), with what the person does (RFC 4480 §3.2).
pub(super) fn presence(entity: &str, presence: Presence) -> String {
    let entity = escaped(entity);
    let basic = if presence.is_registered { "open" } else { "closed" };
    let (activity, note) = match presence.is_on_the_phone {
        true => ("<rpid:activities><rpid:on-the-phone/></rpid:activities>", "On the phone"),
        false => ("", if presence.is_registered { "Online" } else { "Offline" }),
    };
    format!(
        "{XML}<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" \
         xmlns:dm=\"urn:ietf:params:xml:ns:pidf:data-model\" \
         xmlns:rpid=\"urn:ietf:params:xml:ns:pidf:rpid\" entity=\"{entity}\">\r\n\
         <tuple id=\"phones\"><status><basic>{basic}</basic></status><note>{note}</note></tuple>\r\n\
         <dm:person id=\"person\">{activity}</dm:person>\r\n</presence>\r\n"
    )
}

impl Progress {
    const fn name(self) -> &'static str {
        match self {
            Self::Trying => "trying",
            Self::Early => "early",
            Self::Confirmed => "confirmed",
        }
    }
}

/// What phones name themselves and their dialogs may be anything.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::CallKey;

    fn dialog(call: u64, progress: Progress) -> DialogSeen {
        DialogSeen {
            call: CallKey(call),
            call_id: format!("id{call}"),
            phones_tag: Some("a\"<&>'b\u{1}".into()),
            our_tag: "0123".into(),
            is_initiator: false,
            progress,
        }
    }

    #[test]
    fn a_change_tells_what_is_new_and_what_is_gone_and_nothing_else() {
        let known = [dialog(1, Progress::Early), dialog(2, Progress::Confirmed)];
        let now = [dialog(2, Progress::Confirmed), dialog(3, Progress::Trying)];
        let text = dialogs_changed("sip:b@acme.test", 4, &known, &now);
        assert!(text.contains("version=\"4\" state=\"partial\" entity=\"sip:b@acme.test\""));
        let ids: Vec<_> = [1, 2, 3].map(|id| text.contains(&format!("id=\"c{id}\""))).into();
        assert_eq!(ids, [true, false, true]);
        assert_eq!(text.matches("<state>terminated</state>").count(), 1);
        assert_eq!(text.matches("<state>trying</state>").count(), 1);
    }

    #[test]
    fn no_name_breaks_out_of_its_place() {
        let text = dialogs("sip:b@acme.test", 0, &[dialog(1, Progress::Early)]);
        assert!(text.contains("local-tag=\"a&quot;&lt;&amp;&gt;&apos;b\u{fffd}\""), "{text}");
    }

    #[test]
    fn a_mailbox_is_counted_by_new_and_old() {
        let text = mailbox("sip:b@acme.test", Mailbox { new: 2, old: 8 });
        assert!(text.contains("Messages-Waiting: yes\r\n") && text.contains("Voice-Message: 2/8"));
        let none = mailbox("sip:b@acme.test", Mailbox::default());
        assert!(none.contains("Messages-Waiting: no\r\n") && none.contains("Voice-Message: 0/0"));
    }
}
