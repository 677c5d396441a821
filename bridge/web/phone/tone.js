// Ringing without a sound file: 425 Hz, one second of five, as in German networks.

let context;

/** Begin to ring; call what is returned to end it. Without a gesture of the user browsers may keep it silent. */
export function ring(volume) {
  context ??= new AudioContext();
  context.resume();
  const gain = new GainNode(context, { gain: 0 }), tone = new OscillatorNode(context, { frequency: 425 });
  tone.connect(gain).connect(context.destination);
  tone.start();
  const once = () => gain.gain.setValueAtTime(volume, context.currentTime).setValueAtTime(0, context.currentTime + 1);
  once();
  const again = setInterval(once, 5000);
  return () => {
    clearInterval(again);
    tone.stop();
  };
}
