//! A user listens to the messages of the own mailbox: those that are new first, each
//! after a tone. `1` plays it again, `3` or `7` removes it, `#` goes on to the next.
//!
//! What is heard or removed is a step of this call's record, and so is done once,
//! whatever is away at the moment.

use std::time::Duration;

use landline_control::{Op, Play, Sound};

use super::mailbox::{HASH, MailboxStep};
use super::{Call, Ending};
use crate::context::Context;
use crate::io::{Output, StoredMessage};
use crate::record::{Cause, Step};
use crate::timers::{CallTimer, Timer};

/// How long the database may take to say what there is.
const LOOKING: Duration = Duration::from_secs(10);
/// Nobody listens for longer at one time.
const LISTENING: Duration = Duration::from_secs(3600);
/// RFC 4733 §3.2.
const AGAIN: u8 = 1;
const REMOVE: [u8; 2] = [3, 7];

impl Call {
    /// Asks what the mailbox holds.
    pub(super) fn look_for_messages(&mut self, cx: &mut Context) {
        let Some(user) = self.mailbox.as_ref().map(|it| it.user.sid) else { return };
        cx.counters.mailboxes_listened += 1;
        let (call, account) = (self.sid, self.account.sid);
        cx.out.push_back(Output::Messages { call, account, user });
        let timer = CallTimer::Mailbox(MailboxStep::Looking);
        cx.timers.set(cx.now.instant + LOOKING, Timer::Call(self.key, timer));
    }

    pub(crate) fn messages_found(
        &mut self,
        cx: &mut Context,
        messages: Option<Vec<StoredMessage>>,
    ) {
        let is_open = self.ending.is_none();
        let Some(mailbox) = self.mailbox.as_mut().filter(|_| is_open) else { return };
        if mailbox.step != MailboxStep::Looking {
            return;
        }
        let Some(messages) = messages else {
            return self.end(cx, Ending::because(Cause::Failed, 200, 500, "No mailbox"));
        };
        let is_empty = messages.is_empty();
        mailbox.messages = messages;
        if is_empty {
            return self.say_farewell_by(cx, Sound::NoMessages);
        }
        mailbox.step = MailboxStep::Listening;
        let timer = CallTimer::Mailbox(MailboxStep::Listening);
        cx.timers.set(cx.now.instant + LISTENING, Timer::Call(self.key, timer));
        self.play_message(cx);
    }

    /// The one that it is the turn of; after the last, that there are no more.
    fn play_message(&mut self, cx: &mut Context) {
        let Some(mailbox) = &self.mailbox else { return };
        match mailbox.messages.get(mailbox.at) {
            Some(message) => {
                let sounds = vec![Sound::Beep, Sound::Message(message.recording)];
                self.play_to_owner(cx, sounds);
            }
            None => self.say_farewell_by(cx, Sound::NoMoreMessages),
        }
    }

    fn say_farewell_by(&mut self, cx: &mut Context, sound: Sound) {
        if let Some(mailbox) = &mut self.mailbox {
            mailbox.step = MailboxStep::Farewell;
        }
        self.play_to_owner(cx, vec![sound]);
    }

    /// From its beginning, also if it is what is played already.
    fn play_to_owner(&mut self, cx: &mut Context, sounds: Vec<Sound>) {
        let Some(owner) = self.legs.first().map(|it| it.relay_leg) else { return };
        let play = Op::Play(owner, Box::new(Play { sounds, repeats: false }));
        self.have_relay(cx, vec![Op::Hush(owner), play]);
    }

    /// The message was played to its end.
    pub(super) fn message_heard(&mut self, cx: &mut Context) {
        let Some(mailbox) = &mut self.mailbox else { return };
        let heard = mailbox.messages.get_mut(mailbox.at);
        let fresh = heard.and_then(|it| std::mem::take(&mut it.is_new).then_some(it.sid));
        mailbox.at += 1;
        if let Some(message) = fresh {
            self.journal(cx, Step::MessageHeard { message });
        }
        self.play_message(cx);
    }

    pub(super) fn listening_key(&mut self, cx: &mut Context, event: u8) {
        let Some(mailbox) = &mut self.mailbox else { return };
        match event {
            AGAIN => {}
            HASH => mailbox.at += 1,
            event if REMOVE.contains(&event) && mailbox.at < mailbox.messages.len() => {
                let message = mailbox.messages.remove(mailbox.at).sid;
                self.journal(cx, Step::MessageRemoved { message });
            }
            _ => return,
        }
        self.play_message(cx);
    }
}
