"""Our models under the tasks of the LM evaluation harness (`lm_eval`)."""
