/** What text may be: PROTOCOL 3 (`BAD_REQUEST` on lone surrogates) and 5 (lengths are Unicode code points). */

/** The number of Unicode code points of a well-formed string; a surrogate pair counts once. */
export function codePoints(text: string): number {
  let pairs = 0;
  for (let i = 0; i < text.length; i++) {
    if ((text.charCodeAt(i) & 0xfc00) === 0xd800) pairs++;
  }
  return text.length - pairs;
}

// RegExp with the `u` flag reads pairs as one code point, so a surrogate that matches is a lone one.
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Whether the string holds a surrogate without its partner: JSON can escape one, UTF-8 can't carry it. */
export function hasLoneSurrogate(text: string): boolean {
  return LONE_SURROGATE.test(text);
}
