package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

const bashCompletion = `_serai() {
  local cur opts
  cur="${COMP_WORDS[COMP_CWORD]}"
  if [[ "$cur" == -* ]]; then
    opts=$("${COMP_WORDS[@]:0:$COMP_CWORD}" "$cur" --generate-bash-completion 2>/dev/null)
    [[ "$cur" == --* ]] || opts="${opts//--/-}"
  else
    opts=$("${COMP_WORDS[@]:0:$COMP_CWORD}" --generate-bash-completion 2>/dev/null)
  fi
  COMPREPLY=($(compgen -W "${opts}" -- "${cur}"))
}
complete -o default -F _serai serai
`

const zshCompletion = "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion

const fishCompletion = `function __serai
  set -l words (commandline -opc)
  set -l word (commandline -ct)
  switch $word
    case '--*'
      $words $word --generate-bash-completion 2>/dev/null
    case '-*'
      $words $word --generate-bash-completion 2>/dev/null | string replace -r '^--' '-'
    case '*'
      $words --generate-bash-completion 2>/dev/null
  end
end
complete -c serai -f -a '(__serai)'
`

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:            "completion",
		Usage:           "print the shell completion script",
		ArgsUsage:       "bash|zsh|fish",
		HideHelpCommand: true,
		BashComplete:    func(c *cli.Context) { fmt.Fprintln(c.App.Writer, "bash\nzsh\nfish") },
		Description: "Examples:\n\n" +
			"  source <(serai completion bash)\n" +
			"  serai completion fish > ~/.config/fish/completions/serai.fish",
		Action: func(c *cli.Context) error {
			scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
			script, ok := scripts[c.Args().First()]
			if !ok {
				return &usageError{command: "completion", err: fmt.Errorf("which shell? bash, zsh or fish")}
			}
			fmt.Fprint(c.App.Writer, script)
			return nil
		},
	}
}
