/**
 * Why something could not be started, in words for whoever started it: what is wrong and what to do. Printed
 * without a stack.
 */
export class StartError extends Error {
  override readonly name = 'StartError';
}
