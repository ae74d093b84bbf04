import type { OkData } from '../../shared/protocol/requests.js';
import type { MarkKind } from '../mark-kind.js';

/** `message.read`: reading implies that it was delivered. Never goes back. */
export const readMark: MarkKind<OkData<'message.read'>> = {
  move: (marks, seq, ordinal) => ({
    ...marks,
    read_seq: Math.max(marks.read_seq, seq),
    read_ordinal: Math.max(marks.read_ordinal, ordinal),
    delivered_seq: Math.max(marks.delivered_seq, seq),
  }),
  ok: (marks, head) => ({ readSeq: marks.read_seq, unread: head.last_ordinal - marks.read_ordinal }),
};
