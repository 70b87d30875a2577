"""Which training clips taught a video model its motion, and fine-tuning on those that teach it well."""
