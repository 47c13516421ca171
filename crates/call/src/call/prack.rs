//! Provisional responses of a callee that want to be acknowledged (RFC 3262 §4):
//! each once, and in its order.

use landline_sip::{Dialog, DialogId, HeaderName, Method, RAck, Response, StatusCode};

use super::Call;
use super::leg::LegState;
use super::open::read_body;
use super::reliable::RELIABLE;
use crate::context::{ClientUse, Context};

/// Early dialogs of one INVITE of ours that have heard such a response: phones
/// behind a proxy that forks.
const MOST: usize = 8;

#[derive(Default)]
pub(crate) struct EarlyDialogs(Vec<EarlyDialog>);

struct EarlyDialog {
    /// Counts our PRACKs.
    dialog: Dialog,
    /// The number of the last one in order.
    rseq: u32,
}

impl EarlyDialogs {
    /// What the 2xx's dialog goes on from.
    pub(super) fn of(&self, id: &DialogId) -> Option<&Dialog> {
        self.0.iter().map(|early| &early.dialog).find(|dialog| dialog.id() == *id)
    }

    /// The highest CSeq number that was used in them.
    pub(super) fn cseq(&self) -> u32 {
        self.0.iter().map(|early| early.dialog.local_cseq()).max().unwrap_or(0)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The dialog to acknowledge in; `None` for what came before, or comes too
    /// early.
    fn heard(&mut self, dialog: Dialog, rseq: u32) -> Option<&mut Dialog> {
        let known = self.0.iter().position(|early| early.dialog.id() == dialog.id());
        let early = match known {
            Some(at) => self.0.get_mut(at).filter(|early| rseq == early.rseq.wrapping_add(1)),
            None if self.0.len() < MOST => {
                self.0.push(EarlyDialog { dialog, rseq });
                self.0.last_mut()
            }
            None => None,
        }?;
        early.rseq = rseq;
        Some(&mut early.dialog)
    }
}

impl Call {
    /// Acknowledges a provisional response that wants it. False where it says
    /// nothing new, or what comes before it is still missing.
    pub(super) fn acknowledge_provisional(
        &mut self,
        cx: &mut Context,
        leg: usize,
        said: &Response,
    ) -> bool {
        let rseq = said.rseq().ok().flatten().filter(|_| said.requires(RELIABLE));
        let Some(rseq) = rseq.filter(|_| said.status != StatusCode::TRYING) else { return true };
        let Some(it) = self.legs.get_mut(leg) else { return false };
        let Some(branch) = it.branch() else { return false };
        let invite = branch.request.as_ref();
        let dialog = invite.and_then(|invite| Dialog::uac(invite, said).ok());
        let (Some(dialog), Ok(cseq)) = (dialog, said.cseq()) else { return false };
        let Some(dialog) = branch.early.heard(dialog, rseq) else {
            cx.counters.provisionals_repeated += 1;
            return false;
        };
        let mut prack = dialog.request(Method::Prack);
        let dialog = dialog.clone();
        prack.headers.push(HeaderName::RAck, RAck { rseq, cseq }.to_string());
        it.prove(cx, &mut prack);
        if let Some(destination) = it.destination_in(cx, Some(&dialog)) {
            cx.counters.pracks_sent += 1;
            cx.send(ClientUse::Prack, prack, destination);
        }
        // From now on it may send requests of its own.
        if it.state == LegState::Early && it.dialog.is_none() {
            it.learn_methods(&said.headers);
            it.dialog = Some(dialog);
        }
        self.take_early_answer(cx, leg, said);
        true
    }

    /// What such a response says of the media is the answer, whether or not the
    /// caller hears it: the 2xx need not repeat it (RFC 3261 §13.2.1).
    fn take_early_answer(&mut self, cx: &mut Context, leg: usize, said: &Response) {
        let plain = self.accepts_plain(leg);
        let media = self.legs.get_mut(leg).and_then(|it| it.media.as_mut());
        let Some(media) = media.filter(|media| media.agreed.is_none()) else { return };
        if !said.body.is_empty()
            && let Ok(answer) = read_body(cx, &said.body)
        {
            // One that will not do is found out by the 2xx.
            let _ = media.preview(answer, plain);
        }
    }
}
