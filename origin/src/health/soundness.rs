//! Whether what the stream tells can be believed, judged from what Postgres says of publication, slot and tables.

use super::vitals::{PublicationVitals, Vitals};
use limn_core::protocol::FaultCode;

/// The measure that a look at the catalog calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All is well.
    Sound,
    /// Somebody has to mend what the code names.
    Unsound(FaultCode),
    /// It is well again, but changes were left out meanwhile: every shape starts over.
    Mended,
    /// The slot belongs to a publication that is gone: begin with a new one.
    StartOver(FaultCode),
    /// The connection has lost its slot: connect again.
    Reconnect(FaultCode),
}

/// The findings of the look before.
#[derive(Debug, Default)]
pub struct Soundness {
    publication: Option<PublicationVitals>,
}

impl Soundness {
    /// The verdict on a look, given those before it and the publication that the stream carries, by its oid.
    pub fn judge(&mut self, vitals: &Vitals, followed: Option<u32>) -> Verdict {
        let Some(now) = &vitals.publication else { return self.start_over() };
        if followed.is_some_and(|oid| oid != now.oid) {
            return self.start_over();
        }
        if self.publication.as_ref().is_some_and(|before| before.oid != now.oid) {
            return self.start_over();
        }
        if !vitals.slot_lives {
            return Verdict::Reconnect(FaultCode::SlotLost);
        }
        let before = self.publication.replace(now.clone());
        if !now.is_whole {
            return Verdict::Unsound(FaultCode::Publication);
        }
        match before {
            Some(before) if before.version != now.version => Verdict::Mended,
            _ => Verdict::Sound,
        }
    }

    fn start_over(&mut self) -> Verdict {
        self.publication = None;
        Verdict::StartOver(FaultCode::Publication)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limn_core::Lsn;

    fn vitals(oid: u32, version: &str, is_whole: bool) -> Vitals {
        let publication = Some(PublicationVitals { oid, version: version.to_owned(), is_whole });
        Vitals { publication, slot_lives: true, retained_bytes: None, wal_end: Lsn::ZERO }
    }

    #[test]
    fn an_alteration_is_unsound_and_its_end_costs_every_shape() {
        let mut soundness = Soundness::default();
        assert_eq!(soundness.judge(&vitals(1, "10", true), None), Verdict::Sound);
        assert_eq!(soundness.judge(&vitals(1, "11", false), None), Verdict::Unsound(FaultCode::Publication));
        assert_eq!(soundness.judge(&vitals(1, "11", false), None), Verdict::Unsound(FaultCode::Publication));
        assert_eq!(soundness.judge(&vitals(1, "12", true), None), Verdict::Mended);
        assert_eq!(soundness.judge(&vitals(1, "12", true), None), Verdict::Sound);
    }

    #[test]
    fn what_was_altered_and_mended_between_two_looks_is_seen() {
        let mut soundness = Soundness::default();
        soundness.judge(&vitals(1, "10", true), None);
        assert_eq!(soundness.judge(&vitals(1, "12", true), None), Verdict::Mended);
    }

    #[test]
    fn a_publication_that_is_gone_or_another_one_needs_a_new_slot() {
        let mut soundness = Soundness::default();
        soundness.judge(&vitals(1, "10", true), None);
        assert_eq!(soundness.judge(&vitals(2, "10", true), None), Verdict::StartOver(FaultCode::Publication));
        assert_eq!(soundness.judge(&vitals(2, "10", true), None), Verdict::Sound);
        let gone = Vitals { publication: None, ..vitals(2, "10", true) };
        assert_eq!(soundness.judge(&gone, None), Verdict::StartOver(FaultCode::Publication));
    }

    #[test]
    fn a_lost_slot_needs_a_new_connection() {
        let lost = Vitals { slot_lives: false, ..vitals(1, "10", true) };
        assert_eq!(Soundness::default().judge(&lost, None), Verdict::Reconnect(FaultCode::SlotLost));
    }

    #[test]
    fn a_publication_that_was_replaced_before_the_first_look_is_another_one() {
        assert_eq!(
            Soundness::default().judge(&vitals(2, "10", true), Some(1)),
            Verdict::StartOver(FaultCode::Publication)
        );
        assert_eq!(Soundness::default().judge(&vitals(2, "10", true), Some(2)), Verdict::Sound);
    }
}
