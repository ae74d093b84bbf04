import type { OkData } from '../../shared/protocol/requests.js';
import type { MarkKind } from '../mark-kind.js';

/** `message.delivered`: never goes back. */
export const deliveredMark: MarkKind<OkData<'message.delivered'>> = {
  move: (marks, seq) => ({ ...marks, delivered_seq: Math.max(marks.delivered_seq, seq) }),
  ok: (marks) => ({ deliveredSeq: marks.delivered_seq }),
};
