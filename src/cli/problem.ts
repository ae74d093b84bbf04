/** Why a command did not do what it was asked, in words for whoever typed it; printed without a stack. */
export class Problem extends Error {
  override readonly name = 'Problem';
}

/** The command line was wrong: the usage is printed with it, and the exit code is 2. */
export class UsageProblem extends Problem {}
