"""Whether a contract is kept: what is counted (`units`), how sure it is (`rates`, `clauses`), what follows (`verdicts`,
`needed`), how it is told (`certificate`, `words`), and the story of `sortal certify` (`study`)."""
