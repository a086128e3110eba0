//! Reads a link until it ends, from either side.

use symphony_wire::carrier::Timed;
use symphony_wire::carrier::link::{LinkReceiver, LinkSender};
use symphony_wire::codec::Frame;

/// Gives what arrives to `take` until the link has ended, or `take` says why it is to end: then the
/// peer is told so. Returns why it has ended.
pub(crate) async fn receive<In: Frame, Out: Frame>(
    sender: &LinkSender<Out>,
    receiver: &mut LinkReceiver<In>,
    mut take: impl FnMut(Timed<In>) -> Result<(), String>,
) -> String {
    loop {
        let mut end = None;
        let received = receiver
            .drain(|message| {
                if end.is_none() {
                    end = take(message).err();
                }
            })
            .await;
        match (received, end) {
            (Err(error), _) => return error.to_string(),
            (Ok(_), Some(why)) => {
                sender.close(&why);
                return why;
            }
            (Ok(_), None) => {}
        }
    }
}
