#!/usr/bin/env bash
# Stop the throw-away Slurm that start.sh put under DIR, and undo what it wrote elsewhere.
D=${1:?directory given to start.sh}
export SLURM_CONF=$D/slurm.conf
scancel -u root 2> /dev/null
sleep 1
for name in slurmd-slurmci1 slurmd-slurmci2 slurmctld munged; do
  pid_file=$D/run/$name.pid
  [ -s "$pid_file" ] && kill "$(cat "$pid_file")" 2> /dev/null
done
kept=$(grep -v '# slurm-test$' /etc/hosts) && printf '%s\n' "$kept" > /etc/hosts
exit 0
